"""What a data set is like: figures, a plot, a contact sheet; and its division into two without near-duplicates across."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from ocrsdk.data.drawing import IGNORED, TRUTH, draw_polygons
from ocrsdk.data.image import check_image, read_image
from ocrsdk.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ocrsdk.data.layout import Progress
    from ocrsdk.data.preparation import Preparation
    from ocrsdk.types import Annotation, TargetMaps

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Spread:
    """Quantiles of a quantity; all 0 where there is none."""

    least: float
    p5: float
    p25: float
    median: float
    p75: float
    p95: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Those of some values."""
        return cls(*(float(v) for v in np.quantile(values, QUANTILES))) if len(values) else cls(*(0.0,) * 7)


class Measured(NamedTuple):
    """Every value, for plots."""

    width: list[float]
    height: list[float]
    regions: list[float]
    text_height: list[float]
    aspect: list[float]


@dataclass(frozen=True)
class Statistics:
    """What a data set is like."""

    pages: int
    regions: int
    ignored: int
    characters: int
    polygons: int
    """Regions with other than four corners."""
    spreads: Mapping[str, Spread]
    """``width`` and ``height`` of pages in pixels, ``regions`` a page, ``text_height`` in pixels when a page is evaluated (the
    shorter side of the smallest rectangle around a region), ``aspect``, its longer side over its shorter one."""
    too_small: int
    """Regions whose text is less tall in training than what counts."""

    def as_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return asdict(self) | {"ignore_share": self.ignored / self.regions if self.regions else 0.0}


def measure(
    annotations: Sequence[Annotation], preparation: Preparation, smallest: float, progress: Progress | None = None
) -> tuple[Statistics, Measured]:
    """Figures of a data set; images are not decoded.

    Args:
        annotations: Its pages.
        preparation: How pages are scaled for evaluation.
        smallest: Pixels; text that is less tall at evaluation counts as too small.
        progress: Wraps the images.

    Raises:
        ImageError: An image cannot be read.
    """
    found = Measured([], [], [], [], [])
    paths = (annotation.image for annotation in annotations)
    for annotation, _ in zip(annotations, progress(paths, len(annotations)) if progress else paths, strict=True):
        height, width = check_image(annotation.image)
        found.width.append(width)
        found.height.append(height)
        found.regions.append(len(annotation.instances))
        scale = preparation.evaluation_scale(height, width)
        for instance in annotation.instances:
            _, sides, _ = cv2.minAreaRect(instance.polygon)
            low, high = max(min(sides), 1e-6), max(sides)
            found.text_height.append(low * scale)
            found.aspect.append(high / low)
    instances = [instance for annotation in annotations for instance in annotation.instances]
    statistics = Statistics(
        pages=len(annotations),
        regions=len(instances),
        ignored=sum(instance.ignore for instance in instances),
        characters=sum(len(instance.text) for instance in instances if not instance.ignore),
        polygons=sum(len(instance.polygon) != 4 for instance in instances),
        spreads={name: Spread.of(values) for name, values in found._asdict().items()},
        too_small=sum(value < smallest for value in found.text_height),
    )
    return statistics, found


def plot(found: Measured, smallest: float, target: Path) -> None:
    """Write histograms as PNG, SVG or PDF, by the ending of ``target``.

    Raises:
        DataError: It cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    for axes, (values, title, log) in zip(
        panels,
        (
            (found.width, "page width (pixels)", False), (found.height, "page height (pixels)", False),
            (found.regions, "regions a page", False), (found.text_height, "text height at evaluation (pixels)", True),
            (found.aspect, "aspect of regions", True),
        ),
        strict=False,
    ):  # fmt: skip
        if log and values:
            bins: object = np.geomspace(max(min(values), 0.1), max(*values, 1.0) * 1.01, 40)
            axes.set_xscale("log")
        else:
            bins = 40
        axes.hist(values, bins=bins, color="#3b6ea5")
        axes.set_title(title, fontsize=10)
    panels[3].axvline(smallest, color="#c03a2b", linestyle="--", label="less does not count in training")
    panels[3].legend(fontsize=8)
    panels[5].set_axis_off()
    try:
        figure.savefig(target, dpi=120)
    except (OSError, ValueError) as error:
        raise DataError(f"{target}: cannot be written ({error}); its ending may be .png, .svg or .pdf") from error


# --------------------------------------------------------------------------------------------------------- contact sheet

View = tuple["NDArray[np.uint8]", "list[NDArray[np.float32]]", "NDArray[np.bool_]", "TargetMaps[NDArray[Any]] | None"]
"""Image, polygons in its pixels, don't-care flags, and maps where they are wanted."""


def whole_page(annotation: Annotation) -> View:
    """The page as it is."""
    return read_image(annotation.image), annotation.polygons, annotation.ignore, None


def contact_sheet(annotations: Sequence[Annotation], view: Callable[[Annotation], View], side: int = 480) -> NDArray[np.uint8]:
    """Pages in rows, with their regions (red; grey: don't-care), or the four maps of each beside it; (H, W, 3) uint8 RGB.

    Args:
        annotations: One or more.
        view: Gives what is shown of a page, as ``whole_page``.
        side: Pixels of the longer side of a picture.
    """
    tiles = []
    for annotation in annotations:
        image, polygons, ignore, maps = view(annotation)
        scale = side / max(image.shape[:2])
        picture = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        for polygon, ignored in zip(polygons, ignore, strict=True):
            draw_polygons(picture, [(polygon + 0.5) * scale - 0.5], IGNORED if ignored else TRUTH, 1)  # type: ignore[arg-type]
        pictures = [picture, *_maps(maps, picture.shape[:2])]
        tiles.append(np.concatenate([_framed(p, side) for p in pictures], axis=1))
    columns = max(1, min(len(tiles), round(math.sqrt(len(tiles) * tiles[0].shape[0] / tiles[0].shape[1] * 1.5))))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows).astype(np.uint8)


def _maps(maps: TargetMaps[NDArray[Any]] | None, size: tuple[int, ...]) -> list[NDArray[np.uint8]]:
    shown = []
    for drawn in maps or ():
        levels = (np.asarray(drawn, dtype=np.float32) * 255).clip(0, 255).astype(np.uint8)
        resized = cv2.resize(levels, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        shown.append(cv2.cvtColor(resized, cv2.COLOR_GRAY2RGB).astype(np.uint8))
    return shown


def _framed(picture: NDArray[np.uint8] | NDArray[np.generic], side: int) -> NDArray[np.uint8]:
    frame = np.full((side + 8, side + 8, 3), 255, dtype=np.uint8)
    height, width = picture.shape[:2]
    top, left = (side - height) // 2 + 4, (side - width) // 2 + 4
    frame[top : top + height, left : left + width] = picture
    return frame


# ----------------------------------------------------------------------------------------------------------------- split


def near_duplicates(images: Sequence[Path], bits: int, progress: Progress | None = None) -> NDArray[np.int64]:
    """(n,) group of each image: images that look alike, directly or by way of others, are in one.

    Two images look alike when their difference hashes (neighbouring pixels of a 17 x 16 copy compared; 256 bits) differ in at most
    ``bits``.

    Raises:
        ImageError: An image cannot be read.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    hashes = np.empty((len(images), 32), dtype=np.uint8)
    for index, path in enumerate(progress(images, len(images)) if progress else images):
        grey = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (17, 16), interpolation=cv2.INTER_AREA).astype(np.int16)
        hashes[index] = np.packbits(small[:, 1:] > small[:, :-1])
    first, second = list[int](), list[int]()
    for index in range(len(images) - 1):
        apart = np.bitwise_count(hashes[index + 1 :] ^ hashes[index]).sum(axis=1)
        near = np.flatnonzero(apart <= bits) + index + 1
        first += [index] * len(near)
        second += near.tolist()
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(len(images), len(images)))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def divide(groups: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """(n,) whether each item belongs to the smaller part: whole groups at random, until the share is reached as nearly as may be.

    Raises:
        DataError: One part would be empty.
    """
    wanted, taken = round(share * len(groups)), np.zeros(len(groups), dtype=np.bool_)
    for group in np.random.default_rng(seed).permutation(np.unique(groups)):
        members = groups == group
        if taken.sum() + members.sum() <= max(wanted, 1):
            taken |= members
    if not taken.any() or taken.all():
        raise DataError(
            f"{len(groups)} pages in {len(np.unique(groups))} groups of near-duplicates cannot be divided "
            f"with a share of {share:g}; lower --near, or change --val"
        )
    return taken
