"""Data sets: which samples there are, and how one is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch.utils.data import Dataset

from ocrsdk.data.annotations import pair_files, read_annotation
from ocrsdk.data.image import check_image
from ocrsdk.data.source import SampleSource
from ocrsdk.data.targets import TargetSpec, draw_targets
from ocrsdk.errors import AnnotationError, DataError
from ocrsdk.geometry import apply_matrix, clip_to_page
from ocrsdk.types import Annotation, Sample, TextInstance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ocrsdk.data.preparation import Preparation
    from ocrsdk.data.source import Page
    from ocrsdk.data.transforms import EvalTransform, TrainTransform

OnBadSample = Literal["stop", "skip"]
Outside = Literal["clip", "ignore", "stop"]

Progress = Callable[[Iterable[Path], int], Iterable[Path]]


@dataclass
class DataReport:
    """What was found while a data folder was read."""

    root: Path
    images: int = 0
    instances: int = 0
    ignored: int = 0
    outside: list[str] = field(default_factory=list)
    """``file: region`` for each region that reaches more than a pixel beyond its page."""
    skipped: list[str] = field(default_factory=list)
    """One message for each sample left out."""


def load_annotations(
    root: Path,
    on_bad_sample: OnBadSample = "stop",
    outside: Outside = "clip",
    verify: Literal["decode", "header"] = "decode",
    progress: Progress | None = None,
) -> tuple[list[Annotation], DataReport]:
    """Read and check a folder of ``images/`` and ``labels/``.

    Args:
        root: The folder.
        on_bad_sample: ``stop`` raises at the first bad sample; ``skip`` leaves it out and lists it in the report.
        outside: For regions beyond the page's edge: ``clip`` cuts them, ``ignore`` makes them don't-care, ``stop`` is an error.
        verify: ``decode`` decodes every image once; ``header`` looks at header and end mark only.
        progress: Wraps the images being checked, for a progress bar.

    Raises:
        DataError: The folder or (with ``stop``) one of its samples cannot be used.
    """
    pairs, problems = pair_files(root)
    report = DataReport(root)
    if problems and on_bad_sample == "stop":
        more = f" ({len(problems) - 1} more such files)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}. To leave such samples out: --on-bad-sample skip")
    report.skipped += [str(problem) for problem in problems]

    def check(pair: tuple[Path, Path]) -> Annotation | DataError:
        try:
            return read_sample(*pair, outside, verify, report)
        except DataError as error:
            return error

    annotations = []
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(check, pairs)
        for result, _ in zip(results, progress((p for p, _ in pairs), len(pairs)) if progress else pairs, strict=True):
            if isinstance(result, DataError):
                if on_bad_sample == "stop":
                    pool.shutdown(cancel_futures=True)
                    raise type(result)(f"{result}. To leave such samples out: --on-bad-sample skip") from result
                report.skipped.append(str(result))
            else:
                annotations.append(result)
    if not annotations:
        raise DataError(f"{root}: no usable sample is left ({len(report.skipped)} skipped); the first: {report.skipped[0]}")
    report.images = len(annotations)
    report.instances = sum(len(a.instances) for a in annotations)
    report.ignored = sum(i.ignore for a in annotations for i in a.instances)
    report.outside.sort()
    return annotations, report


def read_sample(
    image: Path,
    label: Path,
    outside: Outside = "clip",
    verify: Literal["decode", "header"] = "header",
    report: DataReport | None = None,
) -> Annotation:
    """One checked sample; the arguments are those of ``load_annotations``.

    Raises:
        DataError: It cannot be used.
    """
    annotation = read_annotation(image, label)
    size = check_image(image, decode=verify == "decode")
    return _settle_outside(annotation, size, outside, report or DataReport(image.parent))


def _settle_outside(annotation: Annotation, size: tuple[int, int], policy: Outside, report: DataReport) -> Annotation:
    """Apply the policy for regions beyond the page; up to one pixel is the usual off-by-one of inclusive corners."""
    height, width = size
    settled = []
    for number, instance in enumerate(annotation.instances, 1):
        low, high = instance.polygon.min(axis=0), instance.polygon.max(axis=0)
        if (low >= -1).all() and high[0] <= width and high[1] <= height:
            settled.append(instance)
            continue
        reach = f"x {low[0]:g}..{high[0]:g}, y {low[1]:g}..{high[1]:g}"
        what = f"{annotation.image}: region {number} reaches {reach} on a {width} x {height} page"
        if policy == "stop":
            raise AnnotationError(f"{what}; cut it with data.outside=clip, or make it don't-care with data.outside=ignore")
        report.outside.append(what)
        if policy == "clip":
            inside = clip_to_page(instance.polygon, height, width)
            if len(inside) >= 3:
                settled.append(TextInstance(inside, instance.text, instance.ignore))
        else:
            settled.append(TextInstance(instance.polygon, instance.text, True))
    return Annotation(annotation.image, tuple(settled))


@dataclass(frozen=True)
class SampleIndex:
    """Which sample, in which epoch: all that a random view depends on besides the seed."""

    epoch: int
    index: int


class TrainDataset(Dataset[Sample]):
    """Random crops with target maps.

    A view is a function of (seed, epoch, index) alone: the number of workers, or a resume, changes nothing.
    """

    def __init__(
        self,
        annotations: Sequence[Annotation],
        transform: TrainTransform,
        targets: TargetSpec,
        seed: int = 0,
        source: SampleSource | None = None,
    ) -> None:
        self.annotations = list(annotations)
        self.transform, self.targets, self.seed = transform, targets, seed
        self.source = source or SampleSource()

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, where: SampleIndex) -> Sample:
        annotation = self.annotations[where.index]
        rng = np.random.default_rng((self.seed, where.epoch, where.index))
        page = self.source.page(annotation, self.transform.preparation)
        prepared = [apply_matrix(polygon, page.matrix) for polygon in annotation.polygons]
        view, matrix = self.transform(page.image, prepared, rng)
        matrix = matrix @ page.matrix
        height, width = view.shape[:2]
        polygons, ignore = [], []
        for instance in annotation.instances:
            polygon = apply_matrix(instance.polygon, matrix)
            low, high = polygon.min(axis=0), polygon.max(axis=0)
            if high[0] > 0 and high[1] > 0 and low[0] < width and low[1] < height:
                polygons.append(polygon)
                ignore.append(instance.ignore)
        flags = np.array(ignore, dtype=np.bool_)
        maps = draw_targets(polygons, flags, height, width, self.targets)
        return Sample(view, polygons, flags, matrix, annotation, page.original_size, maps)


class EvalDataset(Dataset[Sample]):
    """Whole pages, resized and padded, without target maps."""

    def __init__(self, annotations: Sequence[Annotation], transform: EvalTransform, source: SampleSource | None = None) -> None:
        self.annotations = list(annotations)
        self.transform = transform
        self.source = source or SampleSource()

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> Sample:
        annotation = self.annotations[index]
        arrays = self.source.arrays(annotation, self.transform.preparation, self.recipe, lambda page: self.make(annotation, page))
        height, width = (int(side) for side in arrays["size"])
        ends = np.cumsum(arrays["lengths"])[:-1]
        polygons = np.split(arrays["points"], ends) if len(arrays["lengths"]) else []
        return Sample(arrays["image"], polygons, arrays["ignore"], arrays["matrix"], annotation, (height, width))

    @property
    def recipe(self) -> dict[str, int]:
        """What a whole sample depends on besides its annotation and image."""
        return asdict(self.transform)

    def make(self, annotation: Annotation, page: Page) -> dict[str, NDArray[Any]]:
        """The arrays of a whole sample: image, matrix, size, ignore, and polygons as points and lengths."""
        image, matrix = self.transform.finish(page.image)
        matrix = matrix @ page.matrix
        polygons = [apply_matrix(polygon, matrix) for polygon in annotation.polygons]
        return {
            "image": image,
            "matrix": matrix,
            "size": np.array(page.original_size, np.int64),
            "ignore": annotation.ignore,
            "lengths": np.array([len(polygon) for polygon in polygons], np.int64),
            "points": np.concatenate(polygons) if polygons else np.empty((0, 2), np.float32),
        }


class KeptPages(Dataset[int]):
    """Makes and keeps the deterministic part of training samples, one by one; each item is its index."""

    def __init__(self, annotations: Sequence[Annotation], preparation: Preparation, source: SampleSource) -> None:
        self.annotations, self.preparation, self.source = list(annotations), preparation, source

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> int:
        self.source.page(self.annotations[index], self.preparation)
        return index


class KeptSamples(Dataset[int]):
    """Makes and keeps validation samples, one by one; each item is its index."""

    def __init__(self, samples: EvalDataset) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> int:
        self.samples[index]
        return index


class EpochSampler:
    """A shuffled order that is a function of (seed, epoch); can start in the middle of an epoch."""

    def __init__(self, length: int, seed: int = 0) -> None:
        self.length, self.seed = length, seed
        self.epoch, self.start = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch; a new epoch begins at its first sample."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[SampleIndex]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        return iter([SampleIndex(self.epoch, int(index)) for index in order[self.start :]])
