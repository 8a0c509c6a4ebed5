"""``make gpu``: what a GPU gives, in at most six minutes on one H100-class card.

Needs the repository and an environment with the dependencies of ``ocrsdk``, nothing else: pages are generated. Every figure is
written to a JSON file as soon as it is there, so a run that is cut off has told what it had. Without CUDA it says so and ends with
0; ``--device cpu --small`` runs the same parts at a small size, all but the compiler.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE
from typing import Any

import numpy as np
import torch

from ocrsdk import Pipeline, Settings
from ocrsdk.data.datamodule import collate
from ocrsdk.data.dataset import TrainDataset, make_sample
from ocrsdk.data.folder import load_annotations
from ocrsdk.data.synth import write_pages
from ocrsdk.models.dbnet import DBNet
from ocrsdk.models.losses import DBLoss
from ocrsdk.precision.device import device_name, tf32_allowed
from ocrsdk.precision.fp16_safe import FP16Safe
from ocrsdk.precision.fp32 import FP32
from ocrsdk.precision.make import make_strategy, trainer_kwargs
from ocrsdk.precision_tools.bench import cells, run
from ocrsdk.processes import python_module
from ocrsdk.settings.sources import child_environment
from ocrsdk.training.trainer import quiet_trainer
from ocrsdk.types import Batch
from tests.bench.runs import guard_share

STRATEGIES = ("fp32", "fp16-safe", "bf16")
MINUTES = 6.0
TRAINED_SECONDS = 180.0
RESERVE = 25.0
"""Seconds that a training takes beyond its time: imports, the first step, its end."""


class Sizes:
    """What is measured, by whether it is the small run."""

    def __init__(self, small: bool) -> None:
        self.backbone, self.side, self.batch = ("mobilenet", 64, 2) if small else ("resnet50", 640, 8)
        self.steps = 2 if small else 20
        self.pages = (6, 2) if small else (160, 40)
        self.trained_seconds = 1.0 if small else TRAINED_SECONDS
        self.settings = ["--set", "data.crop=64", "--set", "data.short_side=96", "--batch-size", "2"] if small else []


class Report:
    """The figures so far, in a file.

    Args:
        path: The file.
        end: When all has to be over, as of ``time.monotonic``.
    """

    def __init__(self, path: Path, end: float) -> None:
        self.path, self.end, self.found = path, end, dict[str, Any]()

    def add(self, name: str, value: object) -> None:
        """Note a figure, and write all."""
        self.found[name] = value
        self.path.write_text(json.dumps(self.found, indent=1, default=str) + "\n", encoding="utf-8")
        print(f"{name}: {json.dumps(value, default=str)[:300]}", flush=True)

    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()


def sample_batch(side: int, count: int) -> Batch:
    """Noise with a square of text, and its maps."""
    rng = np.random.default_rng(0)
    square = np.array([[side // 4, side // 4], [side * 3 // 4, side // 4], [side * 3 // 4, side // 2], [side // 4, side // 2]])
    return collate([make_sample(rng.integers(0, 256, (side, side, 3), np.uint8), [square]) for _ in range(count)])


def agreement(device: str, sizes: Sizes) -> dict[str, object]:
    """Fp32 without TF32 against the CPU: the same weights, the same page, the largest difference of a probability."""
    torch.manual_seed(0)
    model, image = DBNet("resnet18").eval(), sample_batch(max(sizes.side // 2, 64), 2).image
    with torch.inference_mode(), tf32_allowed(False):
        there = model(image).prob_logits.sigmoid()
        here = model.to(device).to_memory_format(device)(image.to(device)).prob_logits.sigmoid().cpu()
    worst = float((there - here).abs().max())
    return {"largest_difference": worst, "goal": 1e-4, "reached": worst <= 1e-4}


def recovery(device: str, _: Sizes) -> dict[str, object]:
    """A gradient beyond fp16 under fp16-safe: the update is skipped, the scale falls, and the next ones are made."""
    strategy = make_strategy("fp16-safe", {}, device)
    plugin = quiet_trainer(device, trainer_kwargs(strategy, device)).precision_plugin
    torch.manual_seed(0)
    model, loss, batch = DBNet().train().to(device), DBLoss(), sample_batch(64, 2).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    changed, scales = [], []
    for factor in (1.0, 1e30, 1.0, 1.0):
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.zero_grad(set_to_none=True)
        with plugin.forward_context():
            output = model(batch.image)
        total = loss(output.prob_logits, output.thresh_logits, batch.targets).total * factor
        plugin.scaler.scale(total).backward()
        plugin.scaler.step(optimizer)
        plugin.scaler.update()
        changed.append(any(bool((p != b).any()) for p, b in zip(model.parameters(), before, strict=True)))
        scales.append(plugin.scaler.get_scale())
        finite = all(bool(torch.isfinite(p).all()) for p in model.parameters())
    good = changed == [True, False, True, True] and scales[1] < scales[0] and finite
    return {"weights_changed": changed, "scales": scales, "finite": finite, "reached": good}


def speed(device: str, sizes: Sizes) -> dict[str, object]:
    """Images/s and memory of training steps, channels-last, each strategy in a process of its own."""
    options: dict[str, dict[str, object]] = {name: {} for name in STRATEGIES}
    if device == "cpu":
        options["bf16"] = {"force": True}  # also where it is slow
    found = []
    for group in cells(options, [sizes.backbone], [sizes.side], sizes.batch, device):
        found += run(group, sizes.steps)
    base = found[0]
    rows = [
        {
            "strategy": m.cell.strategy, "tf32": bool((m.cell.options or {}).get("tf32")), "images_per_second": m.images_per_second,
            "ratio": m.images_per_second / base.images_per_second, "peak_mib": m.peak_memory_bytes / 2**20,
            "memory_ratio": m.peak_memory_bytes / max(base.peak_memory_bytes, 1), "gemm_share": m.gemm_share,
        }
        for m in found
    ]  # fmt: skip
    half = [row for row in rows if row["strategy"] != "fp32"]
    reached = all(row["ratio"] >= 1.6 and row["memory_ratio"] <= 0.6 for row in half)
    return {"backbone": sizes.backbone, "side": sizes.side, "batch": sizes.batch, "rows": rows, "reached": reached}


def guard(device: str, sizes: Sizes) -> dict[str, object]:
    """What the guard adds to a step: its copies of buffers, its norm, and its waits for the card."""
    found: dict[str, object] = {}
    strategies = [FP32(), *([FP16Safe(FP16Safe.Options())] if device == "cuda" else [])]
    for strategy in strategies:
        added, step = guard_share(strategy, device, side=max(sizes.side // 2, 64), size=sizes.batch)
        found[strategy.name] = {"added_us": added, "step_us": step, "share": added / step, "reached": added / step <= 0.01}
    return found


def pinned(device: str, sizes: Sizes) -> dict[str, object]:
    """Copies of a batch to the card, from memory that it can read by itself and from other."""
    if device != "cuda":
        return {"skipped": "a CPU has no memory to copy to"}
    batch = sample_batch(sizes.side, sizes.batch)
    count = sum(t.nbytes for t in (batch.image, *(batch.targets or ())))
    found: dict[str, object] = {"batch_mib": count / 2**20}
    for name, source in (("pageable", batch), ("pinned", batch.pin_memory())):
        times = []
        for _ in range(20):
            torch.cuda.synchronize()
            start = time.perf_counter()
            source.to("cuda")
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        found[f"{name}_gb_per_second"] = count / statistics.median(times) / 1e9
    return found


def feeding(data: Path, sizes: Sizes) -> dict[str, object]:
    """Samples/s that one core makes, from files, at the size that is trained."""
    annotations, _ = load_annotations(data / "train", verify="header")
    given = Settings(data={"crop": max(64, sizes.side)})
    from ocrsdk.runs.build import train_transform

    dataset = TrainDataset(annotations, train_transform(given))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    dataset[0]
    start, made = time.perf_counter(), 0
    while time.perf_counter() - start < (0.5 if sizes.steps < 5 else 4):
        dataset[made % len(annotations)]
        made += 1
    torch.set_num_threads(threads)
    rate = made / (time.perf_counter() - start)
    return {"samples_per_second_a_core": rate, "cores": os.cpu_count(), "samples_per_second_all": rate * (os.cpu_count() or 1)}


def resume(device: str, data: Path, folder: Path) -> dict[str, object]:
    """A run that is stopped after two epochs and resumed, against one that was not: the largest difference of a weight."""

    def settings(name: str, epochs: int) -> Settings:
        return Settings(
            run_dir=folder / name, data={"crop": 64, "short_side": 96, "batch_size": 2, "workers": 0},
            trainer={"epochs": epochs, "validations": 1, "accelerator": device, "overlays": 0}, cache={"policy": "off"},
            optimizer={"schedule": "poly"},
        )  # fmt: skip

    from pytorch_lightning import Callback

    class StopsAfter(Callback):
        """As a signal would."""

        def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.current_epoch == 1:
                trainer.should_stop = True

    whole = Pipeline(settings("whole", 4)).fit(data)
    Pipeline(settings("part", 4)).fit(data, callbacks=[StopsAfter()])
    part = Pipeline(settings("part", 4)).fit(data, resume=folder / "part")
    states = [torch.load(r.last_checkpoint, weights_only=True)["state_dict"] for r in (whole, part)]
    worst = max(float((states[0][n].float() - states[1][n].float()).abs().max()) for n in states[0])
    return {"steps": [whole.steps, part.steps], "largest_difference": worst, "reached": whole.steps == part.steps and worst <= 1e-3}


def trained(device: str, data: Path, folder: Path, seconds: float, sizes: Sizes) -> dict[str, object]:
    """A run of each strategy, all at once: hmean, finite losses, and what the profiler says they waited for."""

    def train(strategy: str) -> dict[str, object]:
        command = [
            "train", str(data), "--max-time", f"{seconds:.0f}s", "--precision", strategy, "--run-dir", str(folder / strategy),
            "--profile", "--json", "--set", f"trainer.accelerator={device}", *sizes.settings,
        ]  # fmt: skip
        if device == "cpu" and strategy == "bf16":
            command += ["--set", "precision.options.force=true"]
        log = folder / f"{strategy}.log"
        with log.open("w") as errors, python_module("ocrsdk", command, child_environment(), stdout=PIPE, stderr=errors) as child:
            answer, _ = child.communicate()
        if child.returncode:
            return {"failed": log.read_text().strip().splitlines()[-1:]}
        told = json.loads(answer)
        rows = [json.loads(line) for line in (folder / strategy / "metrics.jsonl").read_text().splitlines()]
        losses = [row["train/loss"] for row in rows if "train/loss" in row]
        return {
            "hmean": (told["score"] or {}).get("hmean"), "steps": told["steps"], "skipped_steps": told["skipped_steps"],
            "images_per_second": told["images_per_second"], "peak_mib": told["peak_memory_bytes"] / 2**20,
            "finite": all(np.isfinite(loss) for loss in losses), "verdict": (told["profile"] or {}).get("verdict"),
        }  # fmt: skip

    with ThreadPoolExecutor(len(STRATEGIES)) as pool:
        return dict(zip(STRATEGIES, pool.map(train, STRATEGIES), strict=True))


def compiled(device: str, sizes: Sizes) -> dict[str, object]:
    """The bf16 step under ``torch.compile``, beside the same one without."""
    batch = sample_batch(sizes.side, sizes.batch).to(device)
    loss, found = DBLoss(), dict[str, object]()
    for name in ("eager", "compiled"):
        torch.manual_seed(0)
        model: Any = DBNet(sizes.backbone).train().to(device)  # type: ignore[arg-type]
        model.to_memory_format(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        if name == "compiled":
            start = time.perf_counter()
            model = torch.compile(model)
        times = []
        for number in range(sizes.steps + 3):
            begin = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16):
                output = model(batch.image)
            total = loss(output.prob_logits.float(), output.thresh_logits.float(), batch.targets).total
            total.backward()
            optimizer.step()
            float(total.detach())
            if number >= 3:
                times.append(time.perf_counter() - begin)
        found[f"{name}_images_per_second"] = sizes.batch / statistics.median(times)
    found["seconds_to_compile"] = time.perf_counter() - start - sum(times)
    return found


def main() -> int:
    """Run all parts; returns the exit code: 0 if each gave its figures, 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--small", action="store_true", help="a size that a CPU can do in a minute")
    parser.add_argument("--data", type=Path, help="a data folder with train/ and val/; generated receipts if not given")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="where the figures go")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("skipped: PyTorch sees no CUDA device here (python -m tests.gpu --device cpu --small runs the same parts small)")
        return 0
    sizes, report = Sizes(given.small), Report(given.out, time.monotonic() + 60 * MINUTES)
    device = given.device
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        data = given.data or folder / "pages"
        if given.data is None:
            for split, count, seed in zip(("train", "val"), sizes.pages, (0, 1), strict=True):
                list(write_pages(data / split, count, seed))
        report.add("machine", {"device": device_name(device), "torch": torch.__version__, "cpus": os.cpu_count()})
        parts: dict[str, Callable[[], object]] = {
            "agreement": lambda: agreement(device, sizes),
            "recovery": lambda: recovery(device, sizes),
            "pinned": lambda: pinned(device, sizes),
            "feeding": lambda: feeding(data, sizes),
            "guard": lambda: guard(device, sizes),
            "resume": lambda: resume(device, data, folder),
            "speed": lambda: speed(device, sizes),
            "trained": lambda: trained(device, data, folder, min(sizes.trained_seconds, report.left() - RESERVE), sizes),
            "compiled": lambda: (
                compiled(device, sizes) if device == "cuda" and report.left() > 60 else {"skipped": "no time, or no GPU"}
            ),
        }
        if device == "cpu":
            del parts["compiled"]  # a minute, and a compiler for C
        failed = []
        for name, part in parts.items():
            start = time.perf_counter()
            try:
                report.add(name, part())
            except Exception as error:  # noqa: BLE001 - the other parts give their figures all the same
                traceback.print_exc()
                failed.append(name)
                report.add(name, {"failed": f"{type(error).__name__}: {error}"})
            report.add(f"{name} seconds", round(time.perf_counter() - start, 1))
    print(f"figures: {given.out}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
