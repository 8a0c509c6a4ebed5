"""``ocrsdk bench precision``: speed and memory of training steps, for each strategy, model and image size.

Every figure is taken in a process of its own, so that peak memory belongs to it alone; this module is that process's program.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocrsdk.errors import OcrsdkError, TrainingError
from ocrsdk.settings_sources import child_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class Cell:
    """One thing to measure."""

    strategy: str
    backbone: str
    size: int
    """Side of the square images in pixels."""
    batch: int
    device: str
    steps: int
    tf32: bool = False
    """Let a GPU round fp32 products to TF32."""
    options: dict[str, Any] | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Measured:
    """What a cell gave."""

    cell: Cell
    images_per_second: float
    """Median step: forward, loss, backward, update; no loading."""
    peak_memory_bytes: int
    """Allocated on a GPU; else resident, less what the process had before the model was made."""
    gemm_share: float
    """Floating-point operations a second over those of a large matrix product in the same format, 0 to 1."""
    first_loss: float
    """Comparable between strategies: same weights, same batch."""
    device: str


def cells(
    strategies: Sequence[str], backbones: Sequence[str], sizes: Sequence[int], batch: int, device: str, steps: int,
    threads: int | None = None,
) -> list[Cell]:  # fmt: skip
    """Every combination; on a GPU, fp32 also with TF32."""
    found = []
    for backbone in backbones:
        for size in sizes:
            for strategy in strategies:
                found.append(Cell(strategy, backbone, size, batch, device, steps, threads=threads))
                if device == "cuda" and strategy == "fp32":
                    found.append(Cell(strategy, backbone, size, batch, device, steps, tf32=True, threads=threads))
    return found


def run(cell: Cell) -> Measured:
    """Measure in a new process.

    Raises:
        OcrsdkError: The strategy refuses the device.
    """
    command = [sys.executable, "-m", "ocrsdk.precision_bench", json.dumps(asdict(cell))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        result = json.loads(done.stdout)
        return Measured(**{**result, "cell": Cell(**result["cell"])})
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    raise OcrsdkError(last.removeprefix("error: "))


def measure(cell: Cell) -> Measured:
    """Measure in this process."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from ocrsdk.losses import DBLoss
    from ocrsdk.models.dbnet import DBNet, DBNetConfig
    from ocrsdk.precision_choice import precision_strategy, trainer_kwargs
    from ocrsdk.training.device import device_name, peak_memory
    from ocrsdk.training.trainer import quiet_trainer
    from ocrsdk.types import TargetMaps

    if cell.threads:
        torch.set_num_threads(cell.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = cell.tf32
    strategy = precision_strategy(cell.strategy, cell.options or {}, cell.device)
    plugin = quiet_trainer(cell.device, trainer_kwargs(strategy, cell.device)).precision_plugin
    before = 0 if cell.device == "cuda" else peak_memory(cell.device)
    torch.manual_seed(0)
    model, loss = DBNet(DBNetConfig(backbone=cell.backbone)), DBLoss()
    strategy.prepare(model)
    model.train().to(cell.device).lay_out(cell.device)
    side = (cell.size, cell.size)
    image = torch.randint(0, 255, (cell.batch, 3, *side), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    truth = (torch.rand(cell.batch, 1, *side) > 0.8).float()
    maps = TargetMaps(*(m.to(cell.device) for m in (truth, torch.ones_like(truth), torch.rand_like(truth) * 0.4 + 0.3, truth)))
    image = image.to(cell.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, fused=True)
    scaler = getattr(plugin, "scaler", None) or torch.amp.GradScaler(cell.device, enabled=False)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with plugin.forward_context():
            output = model(image)
            total = loss(output.prob_logits, output.thresh_logits, maps).total
        scaler.scale(total).backward()
        scaler.step(optimizer)
        scaler.update()
        return float(total.detach())  # waits for a GPU

    first_loss = step()
    step()
    times = [_timed(step) for _ in range(cell.steps)]
    peak = peak_memory(cell.device) - before
    with FlopCounterMode(display=False) as counter:
        step()
    dtype = _autocast_dtype(plugin, cell.device)
    n = 1024 if cell.device == "cpu" else 8192
    a, b = (torch.randn(n, n, device=cell.device, dtype=dtype) for _ in range(2))
    gemm = statistics.median(_timed(lambda: float((a @ b)[0, 0])) for _ in range(7))
    seconds = statistics.median(times)
    share = counter.get_total_flops() / seconds / (2 * n**3 / gemm)
    return Measured(cell, cell.batch / seconds, peak, share, first_loss, device_name(cell.device))


def _timed(function: Any) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _autocast_dtype(plugin: Any, device: str) -> Any:
    """The format in which products are computed inside of the plug-in's region."""
    import torch

    with plugin.forward_context():
        one = torch.ones(8, 8, device=device)
        return (one @ one).dtype


def cache_memory(data: Path | None, policies: Sequence[str] = ("off", "image", "sample", "maps")) -> Iterator[tuple[str, int]]:
    """(policy, peak resident bytes) of one training epoch with each cache policy, loading in the main process.

    Args:
        data: A data folder; generated pages if None.
        policies: Values of ``cache.policy``.
    """
    from ocrsdk.data.synth import write_pages

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if data is None:
            data = root / "pages"
            for split, count, seed in (("train", 16, 0), ("val", 4, 1)):
                list(write_pages(data / split, count, seed))
        environment = child_environment()
        for policy in policies:
            command = [
                sys.executable, "-m", "ocrsdk", "train", str(data), "--epochs", "2", "--workers", "0", "--json",
                "--set", "trainer.accelerator=cpu",
                "--run-dir", str(root / policy), "--set", f"cache.policy={policy}", "--set", f"cache.dir={root / 'cache'}",
                "--set", f"trainer.val_loss={str(policy == 'maps').lower()}",
            ]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if done.returncode:
                raise TrainingError(f"cache.policy={policy}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
            yield policy, json.loads(done.stdout)["peak_memory_bytes"]


if __name__ == "__main__":
    try:
        print(json.dumps(asdict(measure(Cell(**json.loads(sys.argv[1]))))))  # noqa: T201
    except OcrsdkError as error:
        sys.exit(f"error: {error}")
