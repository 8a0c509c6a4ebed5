"""Data sets: which samples there are, and how one is made."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset

from ocrsdk.data.source import SampleSource
from ocrsdk.data.targets import TargetSpec, draw_targets
from ocrsdk.geometry import apply_matrix, apply_matrix_to_all
from ocrsdk.types import Annotation, Sample, TargetMaps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ocrsdk.data.preparation import Preparation
    from ocrsdk.data.source import Page
    from ocrsdk.data.transforms import EvalTransform, TrainTransform
    from ocrsdk.data.work_log import WorkLog


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
        self.work_log: WorkLog | None = None

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, where: SampleIndex) -> Sample:
        annotation = self.annotations[where.index]
        if self.work_log is not None:
            self.work_log.note(where.index)
        rng = np.random.default_rng((self.seed, where.epoch, where.index))
        page = self.source.page(annotation, self.transform.preparation)
        prepared = apply_matrix_to_all(annotation.polygons, page.matrix)
        view, matrix = self.transform(page.image, prepared, rng)
        matrix = matrix @ page.matrix
        height, width = view.shape[:2]
        polygons, ignore = [], []
        for instance, polygon in zip(annotation.instances, apply_matrix_to_all(annotation.polygons, matrix), strict=True):
            x, y = polygon.T
            if x.max() > 0 and y.max() > 0 and x.min() < width and y.min() < height:
                polygons.append(polygon)
                ignore.append(instance.ignore)
        flags = np.array(ignore, dtype=np.bool_)
        maps = draw_targets(polygons, flags, height, width, self.targets)
        return Sample(view, polygons, flags, matrix, annotation, page.original_size, maps)


class EvalDataset(Dataset[Sample]):
    """Whole pages, resized and padded; with target maps if ``targets`` says how these are drawn."""

    def __init__(
        self,
        annotations: Sequence[Annotation],
        transform: EvalTransform,
        source: SampleSource | None = None,
        targets: TargetSpec | None = None,
    ) -> None:
        self.annotations = list(annotations)
        self.transform, self.targets = transform, targets
        self.source = source or SampleSource()
        self.work_log: WorkLog | None = None

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> Sample:
        annotation = self.annotations[index]
        if self.work_log is not None:
            self.work_log.note(index)
        preparation, recipe = self.transform.preparation, asdict(self.transform)
        made = self.source.arrays(annotation, preparation, recipe, lambda page: self.make(annotation, page))
        arrays = made.arrays
        height, width = (int(side) for side in arrays["size"])
        maps = None
        if (spec := self.targets) is not None:
            of_maps = recipe | {"targets": asdict(spec)}
            maps = TargetMaps(**self.source.maps(annotation, preparation, of_maps, made, lambda: draw_maps(arrays, spec)))
        return Sample(arrays["image"], _polygons(arrays), arrays["ignore"], arrays["matrix"], annotation, (height, width), maps)

    def make(self, annotation: Annotation, page: Page) -> dict[str, NDArray[Any]]:
        """The arrays of a whole sample: image, matrix, size, ignore, and polygons as points and lengths."""
        image, matrix = self.transform.finish(page.image)
        matrix = matrix @ page.matrix
        polygons = annotation.polygons
        return {
            "image": image,
            "matrix": matrix,
            "size": np.array(page.original_size, np.int64),
            "ignore": annotation.ignore,
            "lengths": np.array([len(polygon) for polygon in polygons], np.int64),
            "points": apply_matrix(np.concatenate(polygons), matrix) if polygons else np.empty((0, 2), np.float32),
        }


def draw_maps(arrays: Mapping[str, NDArray[Any]], targets: TargetSpec) -> dict[str, NDArray[Any]]:
    """The target maps of a whole sample, by their names in ``TargetMaps``; ``arrays`` are those of ``EvalDataset.make``."""
    height, width = arrays["image"].shape[:2]
    maps = draw_targets(_polygons(arrays), arrays["ignore"], height, width, targets)
    return {field.name: getattr(maps, field.name) for field in fields(maps)}


def _polygons(arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
    lengths = arrays["lengths"]
    return np.split(arrays["points"], np.cumsum(lengths)[:-1]) if len(lengths) else []


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
