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
import itertools
import sys
import tempfile
import types
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ocrsdk.data.datamodule import collate
from ocrsdk.data.dataset import ReproducibleViews, SampleIndex, TrainDataset
from ocrsdk.data.folder import load_annotations
from ocrsdk.data.source import SampleSource
from ocrsdk.data.synth import write_pages
from ocrsdk.data.targets import draw_targets
from ocrsdk.data.transforms import EvalTransform, TrainTransform
from ocrsdk.metrics.cleval import CLEvalMetric
from ocrsdk.metrics.hmean import HmeanMetric
from ocrsdk.models.postprocess import PostProcessor
from ocrsdk.settings.sections import PostProcessSettings, TargetSettings
from tests.bench.__main__ import curved, quads
from tests.bench.cache import opened
from tests.bench.timing import machine, page_medians

STAND_INS = ("paddle", "torchvision", "torch_npu", "mmcv", "mmdet", "mmengine", "omegaconf", "tqdm", "imageio")
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

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __ge__(self, other: object) -> bool:
        """Every version is new enough."""
        return True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing()


class _NothingClass(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing()


class _StandIn(types.ModuleType):
    __path__: list[str] = []  # noqa: RUF012 - as of a package
    __version__ = ""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _NothingClass(name, (_Nothing,), {})


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module for every name below ``STAND_INS``."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in STAND_INS else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing in it."""


def module_of(folder: Path, name: str) -> Any:
    """A module without running the ``__init__`` of the packages around it, which import far more."""
    parents = name.split(".")[:-1]
    for depth in range(1, len(parents) + 1):
        around = ".".join(parents[:depth])
        if around not in sys.modules:
            sys.modules[around] = package = _StandIn(around)
            package.__path__ = [str(folder.joinpath(*parents[:depth]))]
    return importlib.import_module(name)


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

    mmocr = module_of(packages, "mmocr.models.textdet.module_losses.db_module_loss").DBModuleLoss()

    def theirs(page: list[np.ndarray], size: int) -> dict[str, Any]:
        data = {"image": np.empty((size, size, 3), np.uint8), "polys": [p.copy() for p in page], "ignore_tags": [False] * len(page)}
        return dict(shrink(border(data)))

    def by_mmocr(page: list[np.ndarray], size: int) -> Any:
        instances = _Instances([polygon.reshape(-1).copy() for polygon in page], np.zeros(len(page), bool))
        return mmocr._get_target_single(types.SimpleNamespace(img_shape=(size, size), gt_instances=instances))

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
    pages, ignore = [quads(20, seed) for seed in range(PAGES)], np.zeros(20, bool)
    drawn = [(by_mmocr(page, 640)[0][0].numpy(), draw_targets(page, ignore, 640, 640, spec).prob_map) for page in pages]
    compare(
        "target maps, 20 quads, 640", "mmocr", lambda page: by_mmocr(page, 640),
        lambda page: draw_targets(page, ignore, 640, 640, spec), "",
        f"probability maps {1 - np.mean([(a != b).mean() for a, b in drawn]):.4%} equal", pages,
    )  # fmt: skip


class _Instances:
    """The part of MMEngine's ``InstanceData`` that MMOCR asks for."""

    def __init__(self, polygons: list[np.ndarray], ignored: np.ndarray) -> None:
        self.polygons, self.ignored = polygons, ignored

    def __getitem__(self, chosen: np.ndarray) -> _Instances:
        return _Instances([self.polygons[i] for i in np.flatnonzero(chosen)], self.ignored[chosen])


def loader(packages: Path, data: Path | None) -> None:
    """A training sample: decoded, turned, scaled, cropped, with maps and a normalised image, as each package does it by default."""
    np.sctypes = {"float": [np.float32, np.float64], "int": [np.int32, np.int64], "uint": [np.uint8]}  # asked for by imgaug
    place = "paddleocr.ppocr.data.imaug"
    operators = module_of(packages, f"{place}.operators")
    cropping = module_of(packages, f"{place}.random_crop_data")
    cropping.int = lambda value: int(np.ravel(value)[0])  # it was written when NumPy made a number of an array of one
    steps = [
        operators.DecodeImage(img_mode="BGR"),
        module_of(packages, f"{place}.iaa_augment").IaaAugment(),
        cropping.EastRandomCropData(size=(640, 640), max_tries=50),
        module_of(packages, f"{place}.make_border_map").MakeBorderMap(),
        module_of(packages, f"{place}.make_shrink_map").MakeShrinkMap(),
        operators.NormalizeImage(scale=1 / 255, order="hwc"),
        operators.ToCHWImage(),
    ]
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            list(write_pages(data := Path(folder) / "pages", 16, 0))
        annotations = load_annotations(data)[0][:40]
        dataset = TrainDataset(annotations, TrainTransform(crop=640, page=EvalTransform()), TargetSettings())
        views, turn = ReproducibleViews(dataset), itertools.count()

        def theirs(page: int) -> None:
            item = annotations[page]
            most = max(map(len, item.polygons))
            padded = [np.pad(polygon, ((0, most - len(polygon)), (0, 0)), "edge") for polygon in item.polygons]  # as it does itself
            sample: dict[str, Any] = {"image": item.image.read_bytes(), "polys": np.stack(padded)}
            sample |= {"ignore_tags": item.ignore.tolist(), "texts": [""] * len(item.polygons)}
            for step in steps:
                sample = step(sample)

        def ours(page: int) -> None:
            collate([views[SampleIndex(next(turn), page)]])

        pages = range(len(annotations))
        compare(
            "a training sample, cold",
            "paddleocr",
            theirs,
            ours,
            ">= 6x",
            f"each its own crops of {len(pages)} pages, 640 x 640",
            pages,
        )
        dataset.source = SampleSource(opened(Path(folder) / "cache"))
        for index in pages:
            dataset[index]
        compare("a training sample, warm", "paddleocr", theirs, ours, ">= 10x", "the peer keeps nothing", pages)


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

    mmocr_metric = module_of(packages, "mmocr.evaluation.metrics.hmean_iou_metric")

    def by_mmocr(page: Any) -> int:
        metric = mmocr_metric.HmeanIOUMetric(pred_score_thrs={"start": 0.5, "stop": 0.5, "step": 0.1})
        metric.results, metric.pred_score_thrs = [], np.array([0.5])
        found = {"polygons": [quad.reshape(-1) for quad in page[1]], "scores": np.ones(len(page[1]))}
        truth = {"polygons": [quad.reshape(-1) for quad in page[0]], "ignored": few.copy()}
        metric.process([], [{"pred_instances": found, "gt_instances": truth}])
        metric.compute_metrics(metric.results)
        return int((metric.results[0]["iou_metric"] > 0.5).sum())

    def straight(polygons: list[np.ndarray]) -> np.ndarray:
        return np.array([[*p.min(axis=0), *p.max(axis=0)] for p in polygons])

    def by_doctr(page: Any, polygons: bool) -> int:
        confusion = doctr.LocalizationConfusion(use_polygons=polygons)
        confusion.update(*((np.stack(side) for side in page) if polygons else page))
        return int(confusion.matches)

    cleval, whole, texts = (
        module_of(packages, "cleval.torchmetric"),
        CLEvalMetric(),
        ["###" if hidden else "receipt" for hidden in few],
    )
    rounded = [tuple([quad.round() for quad in side] for side in page) for page in tilted]

    def by_cleval(page: Any) -> float:
        peer = cleval.CLEvalMetric()
        peer.update([q.ravel().tolist() for q in page[1]], [q.ravel().tolist() for q in page[0]], [""] * len(page[1]), texts)
        return round(float(peer.compute()["det_h"]), 5)

    def by_characters(page: Any) -> float:
        whole.reset()
        return round(whole.update(page[0], texts, few, page[1]).hmean, 5)

    boxes = [(straight(a), straight(b)) for a, b in tilted]
    corners = [tuple(side[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) for side in page) for page in boxes]

    def agree(theirs: Sequence[float], ours: Sequence[float]) -> str:
        return f"{sum(a == b for a, b in zip(theirs, ours, strict=True))} of {len(ours)} pages have equal matches"

    def matched(page: Any, ignore: np.ndarray) -> int:
        metric.reset()  # or the collector would have more to look through with every page
        return metric.update(page[0], ignore, page[1]).matched

    rows: list[tuple[str, str, Callable[[Any], int], Callable[[Any], int], str, Sequence[Any]]] = [
        ("evaluation, 60 quads, 5 don't-care", "openocr (ICDAR)", by_official, lambda p: matched(p, few), "", tilted),
        ("evaluation, 60 quads, 5 don't-care", "mmocr", by_mmocr, lambda p: matched(p, few), "", tilted),
        ("evaluation, 60 quads", "doctr polygons", lambda p: by_doctr(p, True), lambda p: matched(p, none), "", tilted),
    ]
    for name, peer, theirs, ours, goal, pages in rows:
        compare(name, peer, theirs, ours, goal, agree([theirs(p) for p in pages], [ours(p) for p in pages]), pages)
    compare(
        "CLEval, 60 quads, 5 don't-care", "cleval", by_cleval, by_characters, ">= 30x",
        agree([by_cleval(p) for p in rounded], [by_characters(p) for p in rounded]).replace("matches", "hmean"), rounded,
    )  # fmt: skip
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
    rapid = module_of(packages, "rapidocr.ch_ppocr_det.utils").DBPostProcess(0.3, 0.6, 1000, 1.5)
    peers = (("paddleocr", paddle.boxes_from_bitmap), ("openocr", opened.boxes_from_bitmap), ("rapidocr", rapid.boxes_from_bitmap))
    for peer, decode in peers:

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
    parser.add_argument("--only", choices=("target_maps", "postprocess", "evaluation", "loader"))
    parser.add_argument("--data", type=Path, help="pages for the loader  [default: drawn ones]")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    sys.meta_path.append(_StandIns())
    sys.path.append(str(given.packages))
    named = ("paddleocr", "openocr-python", "python-doctr", "mmocr", "rapidocr", "cleval")
    print(f"{machine()}, one core; peers:")
    print("  " + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in named))
    print(ROW.format("", "peer", "peer", "ocrsdk", "ratio", "goal", "agreement"))
    parts = {
        "target_maps": target_maps,
        "postprocess": postprocess,
        "evaluation": evaluation,
        "loader": partial(loader, data=given.data),
    }
    for name, part in parts.items():
        if given.only in (None, name):
            part(given.packages)


if __name__ == "__main__":
    main()
