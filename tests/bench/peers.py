"""``make bench-peers``: our times beside those of published packages, by turns in one process on one core.

The packages lie in a folder of their own, installed without what they depend on; where they import PaddlePaddle or torchvision, an
empty stand-in takes its place, as nothing that is measured uses these. All get the same scenes.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import os
import platform
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ocrsdk.data.targets import draw_targets
from ocrsdk.metrics.hmean import HmeanMetric
from ocrsdk.models.postprocess import PostProcessor
from ocrsdk.settings.sections import PostProcessSettings, TargetSettings
from tests.bench.__main__ import curved, quads
from tests.bench.timing import page_medians

STAND_INS = ("paddle", "torchvision", "torch_npu")
"""Imported by the packages, and used by nothing that is measured."""
ROW = "{:<34}{:<22}{:>11}{:>11}{:>9}{:>9}   {}"
PAGES = 6


class _Nothing:
    """Whatever is asked of a stand-in."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *arguments: Any, **_: Any) -> Any:
        """As a decorator it changes nothing."""
        return arguments[0] if len(arguments) == 1 and callable(arguments[0]) else self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing()


class _StandIn(types.ModuleType):
    __path__: list[str] = []  # noqa: RUF012 - as of a package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Nothing,), {})


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module for every name below ``STAND_INS``."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in STAND_INS else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing in it."""


def module_of(package: Path, name: str) -> Any:
    """A module by its file, without the package around it, which imports far more."""
    path = package / f"{name.replace('.', '/')}.py"
    spec = importlib.util.spec_from_file_location(f"peer_{name.replace('.', '_')}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"{path}: not there; run: make bench-peers")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def compare(
    name: str, peer: str, theirs: Callable[[Any], object], ours: Callable[[Any], object], goal: str, agreement: str,
    pages: Sequence[Any],
) -> None:  # fmt: skip
    """Times of a page, in a line."""
    slow, fast = page_medians(pages, theirs, ours)
    print(ROW.format(name, peer, f"{slow:.3f} ms", f"{fast:.3f} ms", f"{slow / fast:.1f}x", goal, agreement), flush=True)


def target_maps(packages: Path) -> None:
    border = module_of(packages, "paddleocr.ppocr.data.imaug.make_border_map").MakeBorderMap()
    shrink = module_of(packages, "paddleocr.ppocr.data.imaug.make_shrink_map").MakeShrinkMap()
    spec = TargetSettings(distance="db", clamp=True)

    def theirs(page: list[np.ndarray], size: int) -> dict[str, Any]:
        data = {"image": np.empty((size, size, 3), np.uint8), "polys": [p.copy() for p in page], "ignore_tags": [False] * len(page)}
        return dict(shrink(border(data)))

    for size in (640, 1024):
        for name, draw, count, goal in (("20 quads", quads, 20, 16), ("100 quads", quads, 100, 18), ("60 curved", curved, 60, 30)):
            pages = [draw(count, seed, size) for seed in range(PAGES)]
            ignore, apart, unequal = np.zeros(count, bool), list[np.ndarray](), 0
            for page in pages:
                there, here = theirs(page, size), draw_targets(page, ignore, size, size, spec)
                for one, other in ((there["shrink_map"], here.prob_map), (there["threshold_mask"], here.thresh_mask)):
                    unequal += int((one != other).sum())
                both = (there["threshold_mask"] > 0) & (here.thresh_mask > 0)
                apart.append(np.abs(there["threshold_map"] - here.thresh_map)[both])
            far = np.concatenate(apart) > 0.01
            masks = 1 - unequal / (2 * size * size * len(pages))
            agreement = f"masks {masks:.4%} equal, {1 - far.mean():.3%} of the threshold map within 0.01"
            compare(
                f"target maps, {name}, {size}", "paddleocr", lambda page, s=size: theirs(page, s),
                lambda page, s=size, i=ignore: draw_targets(page, i, s, s, spec), f">= {goal}x", agreement, pages,
            )  # fmt: skip


def evaluation(packages: Path) -> None:
    official = module_of(packages, "openocr.opendet.metrics.eval_det_iou").DetectionIoUEvaluator()
    doctr = module_of(packages, "doctr.utils.metrics")
    rng, metric = np.random.default_rng(5), HmeanMetric()
    none, few = np.zeros(60, bool), np.arange(60) % 12 == 0
    truths = [quads(60, seed) for seed in range(PAGES)]
    tilted = [(truth, [quad + rng.normal(0, 1, (4, 2)).astype(np.float32) for quad in truth]) for truth in truths]

    def by_official(page: Any) -> int:
        truth = [{"points": p, "ignore": bool(i)} for p, i in zip(page[0], few, strict=True)]
        return int(official.evaluate_image(truth, [{"points": p} for p in page[1]])["detMatched"])

    def straight(polygons: list[np.ndarray]) -> np.ndarray:
        return np.array([[*p.min(axis=0), *p.max(axis=0)] for p in polygons])

    def by_doctr(page: Any, polygons: bool) -> int:
        confusion = doctr.LocalizationConfusion(use_polygons=polygons)
        confusion.update(*((np.stack(side) for side in page) if polygons else page))
        return int(confusion.matches)

    boxes = [(straight(a), straight(b)) for a, b in tilted]
    corners = [
        tuple([np.array([[a, b], [c, b], [c, d], [a, d]], np.float32) for a, b, c, d in side] for side in page) for page in boxes
    ]

    def agree(theirs: list[int], ours: list[int]) -> str:
        return f"{sum(a == b for a, b in zip(theirs, ours, strict=True))} of {len(ours)} pages have equal matches"

    def matched(page: Any, ignore: np.ndarray) -> int:
        metric.reset()  # or the collector would have more to look through with every page
        return metric.update(page[0], ignore, page[1]).matched

    rows: list[tuple[str, str, Callable[[Any], int], Callable[[Any], int], str, Sequence[Any]]] = [
        ("evaluation, 60 quads, 5 don't-care", "openocr (ICDAR)", by_official, lambda p: matched(p, few), "", tilted),
        ("evaluation, 60 quads", "doctr polygons", lambda p: by_doctr(p, True), lambda p: matched(p, none), "", tilted),
    ]
    for name, peer, theirs, ours, goal, pages in rows:
        compare(name, peer, theirs, ours, goal, agree([theirs(p) for p in pages], [ours(p) for p in pages]), pages)
    pairs = list(zip(boxes, corners, strict=True))
    compare(
        "evaluation, 60 straight boxes", "doctr straight", lambda p: by_doctr(p[0], False), lambda p: matched(p[1], none), ">= 3x",
        agree([by_doctr(a, False) for a, _ in pairs], [matched(b, none) for _, b in pairs]), pairs,
    )  # fmt: skip


def postprocess(packages: Path) -> None:
    maps = []
    for seed in range(PAGES):
        drawn = draw_targets(quads(100, seed), np.zeros(100, bool), 640, 640, TargetSettings())
        maps.append(cv2.GaussianBlur(drawn.prob_map.astype(np.float32) * 0.95, (5, 5), 0))
    ours = PostProcessor(PostProcessSettings(threshold=0.3, box_threshold=0.6, unclip_ratio=1.5))
    found = [np.array([d.polygon.mean(axis=0) for d in ours(prob)]) for prob in maps]
    paddle = module_of(packages, "paddleocr.ppocr.postprocess.db_postprocess").DBPostProcess(0.3, 0.6, 1000, 1.5)
    opened = module_of(packages, "openocr.opendet.postprocess.db_postprocess").DBPostProcess(0.3, 0.6, 1000, 1.5)
    for peer, decode in (("paddleocr", paddle.boxes_from_bitmap), ("openocr", opened.boxes_from_bitmap)):

        def theirs(prob: np.ndarray, decode: Callable[..., Any] = decode) -> Any:
            return decode(prob, prob > 0.3, 640, 640)[0]

        centres = [np.asarray(theirs(prob), np.float64).mean(axis=1) for prob in maps]
        nearest = [np.linalg.norm(a[:, None] - b[None], axis=2).min(axis=1).max() for a, b in zip(centres, found, strict=True)]
        counts = f"{sum(map(len, centres))} and {sum(map(len, found))}"
        agreement = f"{counts} boxes, each centre within {max(nearest):.1f} pixels of one"
        compare("post-process, 100 instances, 640", peer, theirs, ours, ">= 8x", agreement, maps)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers", description=__doc__)
    parser.add_argument("--packages", type=Path, default=Path(".peers"), help="where they are installed  [default: .peers]")
    parser.add_argument("--only", choices=("target_maps", "evaluation", "postprocess"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    sys.meta_path.insert(0, _StandIns())
    sys.path.insert(0, str(given.packages))
    named = ("paddleocr", "openocr-python", "python-doctr")
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, one core; peers:")
    print("  " + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in named))
    print(ROW.format("", "peer", "peer", "ocrsdk", "ratio", "goal", "agreement"))
    for name, part in (("target_maps", target_maps), ("postprocess", postprocess), ("evaluation", evaluation)):
        if given.only in (None, name):
            part(given.packages)


if __name__ == "__main__":
    main()
