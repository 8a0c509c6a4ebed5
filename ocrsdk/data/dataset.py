"""Data sets: which samples there are, and how one is made."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset

from ocrsdk.data.cuts import are_cut, mask_cut_ends
from ocrsdk.data.source import SampleSource
from ocrsdk.data.table import JoinedPages, PageTable
from ocrsdk.data.targets import draw_targets
from ocrsdk.data.transforms import EvalTransform, TrainTransform
from ocrsdk.geometry import apply_matrix, apply_matrix_to_all
from ocrsdk.settings.sections import TargetSettings
from ocrsdk.types import Annotation, Sample, TargetMaps, TextInstance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ocrsdk.data.preparation import Preparation
    from ocrsdk.data.source import Page


@dataclass(frozen=True)
class SampleIndex:
    """Which sample, in which epoch: all that a random view depends on besides the seed."""

    epoch: int
    index: int
    draw: int = 0
    """How often it was drawn before in this epoch."""

    @property
    def seed(self) -> tuple[int, ...]:
        """What tells the view from all others of the same run."""
        return (self.epoch, self.index, self.draw) if self.draw else (self.epoch, self.index)


_view: ContextVar[SampleIndex | None] = ContextVar("view", default=None)
"""The view that is being made for a ``ReproducibleViews``."""


class ReproducibleViews(Dataset[Sample]):
    """A dataset whose random views are functions of (seed, epoch, index), however ``TrainDataset`` is wrapped in it.

    Args:
        dataset: A ``TrainDataset``, a ``Subset`` or ``ConcatDataset`` of such, or any map-style dataset of samples.
    """

    def __init__(self, dataset: Dataset[Sample]) -> None:
        self.dataset = dataset

    def __getitem__(self, where: SampleIndex) -> Sample:
        token = _view.set(where)
        try:
            return self.dataset[where.index]
        finally:
            _view.reset(token)


class TrainDataset(Dataset[Sample]):
    """Random crops with target maps.

    In a ``DetectionDataModule``, a view is a function of (seed, epoch, index) alone: neither the number of workers nor a resume
    changes it. Anywhere else, ``dataset[i]`` is another view each time, as torch's random number generator decides.

    Args:
        annotations: The pages.
        transform: How views are made; as the settings' defaults if None.
        targets: How target maps are drawn; as the settings' defaults if None.
        seed: Of the views.
        source: Where prepared pages come from; their files if None.
    """

    def __init__(
        self,
        annotations: Sequence[Annotation],
        transform: TrainTransform | None = None,
        targets: TargetSettings | None = None,
        seed: int = 0,
        source: SampleSource | None = None,
    ) -> None:
        self.annotations = as_pages(annotations)
        self.transform, self.targets, self.seed = transform or TrainTransform(), targets or TargetSettings(), seed
        self.source = source or SampleSource()

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> Sample:
        annotation = self.annotations[index]
        view = _view.get()
        rng = np.random.default_rng((self.seed, *view.seed) if view is not None else int(torch.randint(2**62, ())))
        page = self.source.page(annotation, self.transform.preparation)
        prepared = apply_matrix_to_all(annotation.polygons, page.matrix)
        crop, matrix = self.transform(page.image, prepared, rng)
        matrix = matrix @ page.matrix
        height, width = crop.shape[:2]
        polygons, ignore = [], []
        for instance, polygon in zip(annotation.instances, apply_matrix_to_all(annotation.polygons, matrix), strict=True):
            x, y = polygon.T
            if x.max() > 0 and y.max() > 0 and x.min() < width and y.min() < height:
                polygons.append(polygon)
                ignore.append(instance.ignore)
        flags = np.array(ignore, dtype=np.bool_)
        cut = are_cut(polygons, height, width)
        if self.transform.augment.cut == "whole":
            flags |= cut
        maps = draw_targets(polygons, flags, height, width, self.targets)
        if self.transform.augment.cut == "edge":
            mask_cut_ends(maps, polygons, cut & ~flags)
        return Sample(crop, polygons, flags, matrix, annotation, page.original_size, maps)


class EvalDataset(Dataset[Sample]):
    """Whole pages, resized and padded; with target maps if ``targets`` says how these are drawn.

    Args:
        annotations: The pages.
        transform: How they are resized; as the settings' defaults if None.
        source: Where prepared pages come from; their files if None.
        targets: How target maps are drawn; none are if None.
    """

    def __init__(
        self,
        annotations: Sequence[Annotation],
        transform: EvalTransform | None = None,
        source: SampleSource | None = None,
        targets: TargetSettings | None = None,
    ) -> None:
        self.annotations = as_pages(annotations)
        self.transform, self.targets = transform or EvalTransform(), targets
        self.source = source or SampleSource()

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> Sample:
        annotation = self.annotations[index]
        preparation, recipe = self.transform.preparation, asdict(self.transform)
        made = self.source.arrays(annotation, preparation, recipe, lambda page: self.make(annotation, page))
        arrays = made.arrays
        height, width = (int(side) for side in arrays["size"])
        maps = None
        if (spec := self.targets) is not None:
            of_maps = recipe | {"targets": spec.model_dump()}
            maps = TargetMaps(**self.source.maps(annotation, preparation, of_maps, made, lambda: draw_maps(arrays, spec)))
        return Sample(arrays["image"], _polygons(arrays), arrays["ignore"], arrays["matrix"], annotation, (height, width), maps)

    def make(self, annotation: Annotation, page: Page) -> dict[str, NDArray[np.generic]]:
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


def draw_maps(arrays: Mapping[str, NDArray[np.generic]], targets: TargetSettings) -> dict[str, NDArray[np.generic]]:
    """The target maps of a whole sample, by their names in ``TargetMaps``; ``arrays`` are those of ``EvalDataset.make``."""
    height, width = arrays["image"].shape[:2]
    maps = draw_targets(_polygons(arrays), arrays["ignore"], height, width, targets)
    return {field.name: getattr(maps, field.name) for field in fields(maps)}


def _polygons(arrays: Mapping[str, NDArray[np.generic]]) -> list[NDArray[np.float32]]:
    lengths = arrays["lengths"]
    return np.split(arrays["points"], np.cumsum(lengths)[:-1]) if len(lengths) else []


def make_sample(
    image: NDArray[np.uint8],
    polygons: Sequence[NDArray[np.float32]],
    ignore: Sequence[bool] | None = None,
    targets: TargetSettings | None = None,
    name: str = "image",
) -> Sample:
    """A sample of one's own, its target maps drawn: for datasets whose images are no files.

    Args:
        image: (H, W, 3) uint8 RGB; H and W are multiples of 32, and equal for all training samples.
        polygons: (N, 2) outlines in its pixels, N >= 3.
        ignore: Don't-care flags; none by default.
        targets: How maps are drawn; as the settings' defaults if None.
        name: What the image is called in messages.
    """
    flags = np.array(ignore if ignore is not None else [False] * len(polygons), np.bool_)
    outlines = [np.asarray(polygon, np.float32) for polygon in polygons]
    height, width = image.shape[:2]
    instances = (TextInstance(polygon, "", bool(flag)) for polygon, flag in zip(outlines, flags, strict=True))
    maps = draw_targets(outlines, flags, height, width, targets)
    return Sample(image, outlines, flags, np.eye(3), Annotation(Path(name), tuple(instances)), (height, width), maps)


def annotations_of(dataset: Dataset[object]) -> Sequence[Annotation] | None:
    """The pages of a dataset of ours, of a ``Subset`` or of a ``ConcatDataset`` of such; None if it does not tell."""
    if isinstance(dataset, Subset):
        inner = annotations_of(dataset.dataset)
        return [inner[i] for i in dataset.indices] if inner is not None else None
    if isinstance(dataset, ConcatDataset):
        parts = [annotations_of(part) for part in dataset.datasets]
        return None if any(part is None for part in parts) else JoinedPages([part for part in parts if part is not None])
    found = getattr(dataset, "annotations", None)
    return found if isinstance(found, list | PageTable | JoinedPages) else None


def as_pages(annotations: Sequence[Annotation]) -> Sequence[Annotation]:
    """A copy of a list, which may change; a table, which cannot, as it is."""
    return annotations if isinstance(annotations, PageTable | JoinedPages) else list(annotations)


def page_names(dataset: Dataset[object]) -> Callable[[int], str]:
    """What each sample is called in messages, by its index: its image if the dataset tells it."""
    pages = annotations_of(dataset)
    return lambda index: str(pages[index].image) if pages is not None else f"sample {index}"


class KeptPages(Dataset[int]):
    """Makes and keeps the deterministic part of training samples, one by one; each item is its index."""

    def __init__(self, annotations: Sequence[Annotation], preparation: Preparation, source: SampleSource) -> None:
        self.annotations, self.preparation, self.source = as_pages(annotations), preparation, source

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


class Share(NamedTuple):
    """Consecutive pages of a training set, and how often each is drawn in an epoch."""

    pages: int
    weight: float = 1.0

    @property
    def rest(self) -> int:
        """Pages that are drawn once more than the others."""
        return max(round((self.weight - int(self.weight)) * self.pages), int(self.weight < 1))

    @property
    def drawn(self) -> int:
        """Draws in an epoch."""
        return int(self.weight) * self.pages + self.rest


class EpochSampler:
    """A shuffled order that is a function of (seed, epoch); can start in the middle of an epoch.

    Args:
        shares: Parts of the set; a weight of 2 draws each page of one twice, a weight of 0.5 every other one, others each epoch.
        seed: Of the order.
    """

    def __init__(self, shares: Sequence[Share], seed: int = 0) -> None:
        self.shares, self.seed = tuple(shares), seed
        self.length = sum(share.drawn for share in self.shares)
        self.epoch, self.start = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch; a new epoch begins at its first sample."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[SampleIndex]:
        indices, draws = self._drawn()
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)[self.start :].astype(np.uint32)
        return (SampleIndex(self.epoch, int(indices[at]), int(draws[at])) for at in order)

    def _drawn(self) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
        """The pages of this epoch in the order of the set, and how often each was drawn before."""
        indices, draws, first = [], [], 0
        for number, share in enumerate(self.shares):
            whole = int(share.weight)
            indices.append(np.tile(np.arange(first, first + share.pages, dtype=np.uint32), whole))
            draws.append(np.repeat(np.arange(whole, dtype=np.uint16), share.pages))
            if share.rest:
                more = np.random.default_rng((self.seed, self.epoch, number)).permutation(share.pages)[: share.rest]
                indices.append((first + np.sort(more)).astype(np.uint32))
                draws.append(np.full(share.rest, whole, np.uint16))
            first += share.pages
        return np.concatenate(indices), np.concatenate(draws)
