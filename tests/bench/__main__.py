"""``make bench``: our times beside those of the original algorithms, taken by turns in one process on one core.

Prints medians and ratios; asserts nothing. ``--data FOLDER`` adds real pages to the loader's part; ``--only NAME`` runs one part.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from tests.bench import reference, runs
from tests.bench.timing import machine, medians, page_medians

SIZE = 640
ROW = "{:<42}{:>12}{:>12}{:>9}{:>9}"
PAGES = 8


def quads(count: int, seed: int, size: int = SIZE) -> list[np.ndarray]:
    """Word-like quads on a jittered grid, slightly rotated."""
    rng = np.random.default_rng(seed)
    columns = int(np.ceil(np.sqrt(count / 2.5)))
    rows = int(np.ceil(count / columns))
    cell = np.array([size / columns, size / rows])
    out = []
    for i in range(count):
        centre = (np.array([i % columns, i // columns]) + 0.5) * cell + rng.uniform(-0.05, 0.05, 2) * cell
        half = cell * rng.uniform([0.3, 0.25], [0.42, 0.36])
        turn = rng.uniform(-0.12, 0.12)
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        out.append(np.clip(corners @ rotation + centre, 1, size - 2).astype(np.float32))
    return out


def curved(count: int, seed: int, size: int = SIZE) -> list[np.ndarray]:
    """Arched words of 14 points."""
    out = []
    for quad in quads(count, seed, size):
        t = np.linspace(0, 1, 7)[:, None]
        arch = np.sin(np.pi * t) * [[0, -np.ptp(quad[:, 1]) * 0.2]]
        top, bottom = quad[0] + (quad[1] - quad[0]) * t + arch, quad[3] + (quad[2] - quad[3]) * t + arch
        out.append(np.clip(np.concatenate([top, bottom[::-1]]), 1, size - 2).astype(np.float32))
    return out


def compare(name: str, theirs: Callable[[Any], object], ours: Callable[[Any], object], goal: float, pages: Sequence[Any]) -> None:
    """Times of a page, in a line."""
    slow, fast = page_medians(pages, theirs, ours)
    print(ROW.format(name, f"{slow:.2f} ms", f"{fast:.3f} ms", f"{slow / fast:.1f}x", f">= {goal:g}x"), flush=True)


def target_maps() -> None:
    from ocrsdk.data.targets import draw_targets
    from ocrsdk.settings.sections import TargetSettings

    cases: list[tuple[str, Callable[[int, int], list[np.ndarray]], int, int]] = [
        ("20 quads", quads, 20, 12), ("100 quads", quads, 100, 16), ("60 curved polygons", curved, 60, 25)
    ]  # fmt: skip
    for name, draw, count, goal in cases:
        ignore = np.zeros(count, bool)
        for distance in ("exact", "db"):
            spec = TargetSettings(distance=distance)
            compare(
                f"target maps, {name}, {distance}",
                lambda page: reference.target_maps(page, SIZE),
                lambda page, i=ignore, s=spec: draw_targets(page, i, SIZE, SIZE, s),
                goal,
                [draw(count, seed) for seed in range(PAGES)],
            )


def postprocess() -> None:
    from ocrsdk.models.postprocess import PostProcessor
    from ocrsdk.settings.sections import PostProcessSettings

    maps = [cv2.GaussianBlur(reference.shrink_maps(quads(100, i), SIZE)[0] * 0.95, (5, 5), 0) for i in range(PAGES)]
    ours = PostProcessor(PostProcessSettings(threshold=0.3, box_threshold=0.6, unclip_ratio=1.5))
    assert all(len(reference.boxes(prob)) == len(ours(prob)) == 100 for prob in maps)
    compare("post-process, 100 instances", reference.boxes, ours, 6, maps)


def evaluation() -> None:
    from ocrsdk.metrics.hmean import HmeanMetric

    rng, ignore, metric = np.random.default_rng(5), np.zeros(60, bool), HmeanMetric()
    truths = [quads(60, i) for i in range(PAGES)]
    pages = [(truth, [quad + rng.normal(0, 1, (4, 2)).astype(np.float32) for quad in truth]) for truth in truths]
    assert all(metric.update(truth, ignore, found).matched == reference.evaluate(truth, found) for truth, found in pages)
    compare(
        "evaluation, 60 boxes an image",
        lambda page: reference.evaluate(*page),
        lambda page: metric.update(page[0], ignore, page[1]),
        500,
        pages,
    )


def loader(data: Path | None) -> None:
    """A whole training sample; the original crops and resizes step by step and draws maps of 640 x 640."""
    from ocrsdk.data.datamodule import collate
    from ocrsdk.data.dataset import ReproducibleViews, SampleIndex, TrainDataset
    from ocrsdk.data.folder import load_annotations
    from ocrsdk.data.synth import write_pages
    from ocrsdk.data.transforms import EvalTransform, TrainTransform
    from ocrsdk.settings.sections import TargetSettings

    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            data = Path(folder) / "pages"
            list(write_pages(data, 16, 0))
        elif (data / "train").is_dir():
            data = data / "train"
        annotations, _ = load_annotations(data)
        dataset = TrainDataset(annotations, TrainTransform(crop=SIZE, page=EvalTransform()), TargetSettings())
        turn, pages = iter(range(10**9)), range(min(40, len(annotations)))

        def ours(page: int) -> None:
            collate([ReproducibleViews(dataset)[SampleIndex(next(turn), page)]])

        rng = np.random.default_rng(0)

        def theirs(page: int) -> None:
            annotation = annotations[page]
            image = cv2.imread(str(annotation.image), cv2.IMREAD_COLOR)
            height, width = image.shape[:2]
            scale, angle = rng.uniform(0.5, 3.0), rng.uniform(-10, 10)
            matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
            image = cv2.warpAffine(image, matrix, (width, height))
            image = cv2.resize(image, None, fx=scale, fy=scale)
            polygons = [(p @ matrix[:, :2].T + matrix[:, 2]) * scale for p in annotation.polygons]
            x = int(rng.uniform(0, max(image.shape[1] - SIZE, 1)))
            y = int(rng.uniform(0, max(image.shape[0] - SIZE, 1)))
            crop = np.zeros((SIZE, SIZE, 3), image.dtype)
            part = image[y : y + SIZE, x : x + SIZE]
            crop[: part.shape[0], : part.shape[1]] = part
            moved = [p - [x, y] for p in polygons]
            inside = [np.clip(p, 0, SIZE - 1) for p in moved if (p.max(axis=0) > 8).all() and (p.min(axis=0) < SIZE - 8).all()]
            reference.target_maps([p for p in inside if cv2.contourArea(p.astype(np.float32)) > 10], SIZE)
            torch.from_numpy(((crop.astype(np.float32) - 120) / 255).transpose(2, 0, 1)).contiguous()

        compare(f"training sample, {data.parent.name}, {SIZE} x {SIZE}", theirs, ours, 4, pages)
        from ocrsdk.data.source import SampleSource
        from tests.bench.cache import opened

        dataset.source = SampleSource(opened(Path(folder) / "cache"))
        for index in range(len(annotations)):
            dataset[index]
        compare("  with a warm cache", theirs, ours, 5, pages)


def cache(data: Path | None) -> None:
    from tests.bench.cache import run

    run(data)


def step() -> None:
    """Share of the matrix-multiplication rate that one training step reaches, one thread."""
    from torch.utils.flop_counter import FlopCounterMode

    from ocrsdk.models.dbnet import DBNet
    from ocrsdk.models.losses import DBLoss
    from ocrsdk.types import TargetMaps

    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    (gemm,) = medians(lambda: a @ b)
    rate = 2 * 1024**3 / gemm * 1000
    print(f"\nmatrix multiplication: {rate / 1e9:.0f} GFLOP/s on {torch.get_num_threads()} thread")
    for backbone, batch in (("resnet18", 2), ("mobilenet", 8)):
        model, loss = DBNet(backbone=backbone), DBLoss()
        image = torch.randint(0, 255, (batch, 3, 320, 320), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
        truth = (torch.rand(batch, 1, 320, 320) > 0.8).float()
        maps = TargetMaps(truth, torch.ones_like(truth), torch.rand_like(truth), truth)

        def run(model: DBNet = model, loss: DBLoss = loss, image: torch.Tensor = image, maps: TargetMaps = maps) -> None:
            output = model(image)
            loss(output.prob_logits, output.thresh_logits, maps).total.backward()

        with FlopCounterMode(display=False) as counter:
            run()
        (took,) = medians(run)
        share = counter.get_total_flops() / took * 1000 / rate
        print(f"training step, {backbone}, {batch} x 320 x 320: {took:.0f} ms, {share:.0%} of that rate", flush=True)


def start_up() -> None:
    def cpu(*args: str) -> float:
        best = []
        for _ in range(5):
            before = os.times()
            subprocess.run([sys.executable, *args], stdout=subprocess.DEVNULL, check=True)
            after = os.times()
            best.append((after.children_user + after.children_system - before.children_user - before.children_system) * 1000)
        return statistics.median(best)

    print(
        f"\nCPU time: python -c pass {cpu('-c', 'pass'):.0f} ms, ocrsdk --help {cpu('-m', 'ocrsdk', '--help'):.0f} ms (goal <= 100)"
    )


PARTS = ("target_maps", "postprocess", "evaluation", "loader", "cache", "step", "logging", "guards", "plugins", "start_up")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--data", type=Path, help="A data folder for the loader's part, instead of generated pages.")
    parser.add_argument("--only", choices=PARTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    print(f"{machine()}, torch {torch.__version__}")
    print(ROW.format("median of one run, one core", "original", "ocrsdk", "ratio", "goal"))
    parts: dict[str, Callable[[], None]] = {
        "target_maps": target_maps,
        "postprocess": postprocess,
        "evaluation": evaluation,
        "loader": lambda: loader(args.data),
        "cache": lambda: cache(args.data),
        "step": step,
        "logging": runs.logging,
        "guards": runs.guards,
        "plugins": runs.plugin_packages,
        "start_up": start_up,
    }
    for name, part in parts.items():
        if args.only in (None, name):
            part()


if __name__ == "__main__":
    main()
