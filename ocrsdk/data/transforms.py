"""Geometry and colour: every geometric step multiplies one 3x3 matrix, and the pixels are warped once.

Matrices map points of the upright original to points of the result. Pixel (0, 0) has its centre at (0, 0), so scaling by ``s``
maps ``x`` to ``s * (x + 0.5) - 0.5``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ocrsdk.data.own_transforms import own_transforms
from ocrsdk.data.preparation import PAGE_MULTIPLE, Preparation
from ocrsdk.settings.sections import MAX_SIDE, SHORT_SIDE, AugmentSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

FILL = (124, 116, 104)
"""RGB outside the page: the mean that the network subtracts."""


def scaling(factor: float) -> Matrix:
    """Scale about the page's top-left corner."""
    shift = (factor - 1) / 2
    return np.array([[factor, 0, shift], [0, factor, shift], [0, 0, 1]], dtype=np.float64)


def translation(dx: float, dy: float) -> Matrix:
    """Move by (dx, dy) pixels."""
    return np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1]], dtype=np.float64)


def rotation(degrees: float) -> Matrix:
    """Turn about the origin, clockwise on screen."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=np.float64)


def horizontal_flip(width: float) -> Matrix:
    """Mirror a page of ``width`` pixels."""
    return np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]], dtype=np.float64)


def warp(image: NDArray[np.uint8], matrix: Matrix, height: int, width: int) -> NDArray[np.uint8]:
    """Sample ``image`` on a (height, width) page; pixels from outside it are ``FILL``.

    Linear interpolation skips pixels when it shrinks to less than half, so such images are first averaged over whole blocks.
    """
    shrink = 1 / math.sqrt(abs(np.linalg.det(matrix[:2, :2])))
    block = int(shrink + 1e-6)
    if block >= 2:
        rows, columns = image.shape[0] // block * block, image.shape[1] // block * block
        if rows and columns:
            image = cv2.resize(  # type: ignore[assignment]
                image[:rows, :columns], (columns // block, rows // block), interpolation=cv2.INTER_AREA
            )
            matrix = matrix @ scaling(block)
    if (matrix[2] == (0, 0, 1)).all():
        return cv2.warpAffine(  # type: ignore[return-value]
            image, matrix[:2], (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=FILL
        )
    return cv2.warpPerspective(  # type: ignore[return-value]
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=FILL
    )


def prepare(image: NDArray[np.uint8], preparation: Preparation) -> tuple[NDArray[np.uint8], Matrix]:
    """Shrink a decoded page by averaging over areas; a page that is small enough is returned as it is.

    Returns:
        The prepared image, (H, W, 3) uint8, and its matrix.
    """
    height, width = image.shape[:2]
    scale = preparation.scale(height, width)
    if scale == 1:
        return image, np.eye(3)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    y, x = new_height / height, new_width / width
    matrix = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]], dtype=np.float64)
    return cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_AREA), matrix  # type: ignore[return-value]


def _sees(matrix: Matrix, height: int, width: int) -> bool:
    """Whether a page lies before the eye as a whole: what is behind it would turn up in the view once more, upside down."""
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]])
    return bool((corners @ matrix[2] > _NEAREST).all())


_NEAREST = 0.05
"""The distance of a page's corner from the eye, where that of the view is 1."""


@dataclass(frozen=True)
class EvalTransform:
    """Resize so that the shorter side is ``short_side`` pixels, then pad right and below to multiples of 32."""

    short_side: int = SHORT_SIDE
    max_side: int = MAX_SIDE
    """The longer side is never made larger than this; the shorter one shrinks with it."""
    multiple: int = PAGE_MULTIPLE

    @property
    def preparation(self) -> Preparation:
        """The part before the padding that can be done once, for pages that are larger."""
        return Preparation(self.short_side, self.max_side)

    def scale(self, height: int, width: int) -> float:
        """The factor for a page of this size."""
        return self.preparation.evaluation_scale(height, width)

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Matrix]:
        """The page, (H, W, 3) uint8, and its matrix, from a decoded image."""
        prepared, before = prepare(image, self.preparation)
        page, matrix = self.finish(prepared)
        return page, matrix @ before

    def finish(self, prepared: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Matrix]:
        """The page and its matrix, from a prepared image."""
        height, width = prepared.shape[:2]
        matrix = scaling(self.scale(height, width))
        new_height, new_width = (max(1, round(side * matrix[0, 0])) for side in (height, width))
        padded = [math.ceil(side / self.multiple) * self.multiple for side in (new_height, new_width)]
        return warp(prepared, matrix, *padded), matrix


@dataclass(frozen=True)
class TrainTransform:
    """Random scale, rotation, flip, crop and colour jitter.

    Scales are relative to the size at which pages are evaluated, so that both stay in one ratio however large the photographs are.
    """

    crop: int = 320
    """Side of the square crop in pixels."""
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    """Ranges of everything random; the scale is log-uniform."""
    page: EvalTransform = EvalTransform()

    @property
    def preparation(self) -> Preparation:
        """What is done to a page once, before anything random."""
        return Preparation(self.page.short_side, self.page.max_side, max(1.0, self.augment.scale_max))

    def __call__(
        self, image: NDArray[np.uint8], polygons: Sequence[NDArray[np.float32]], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], Matrix]:
        """One random view: (crop, crop, 3) uint8 and its matrix.

        Args:
            image: (H, W, 3) uint8 RGB, prepared.
            polygons: Text in pixels of ``image``; most crops are placed to hold some of it.
            rng: All randomness comes from here.
        """
        height, width = image.shape[:2]
        given = self.augment
        low, high = math.log(given.scale_min), math.log(given.scale_max)
        factor = self.page.scale(height, width) * math.exp(rng.uniform(low, high))
        matrix = rotation(rng.uniform(-given.rotate, given.rotate)) @ scaling(factor)
        if rng.random() < given.flip:
            matrix = matrix @ horizontal_flip(width)
        matrix = self._place_crop(matrix, height, width, polygons, rng) @ matrix
        own = own_transforms(given.transforms).draw(self.crop, rng) if given.transforms else None
        if own is not None and _sees(own.matrix @ matrix, height, width):
            matrix = own.matrix @ matrix
        view = self._jitter(warp(image, matrix, self.crop, self.crop), rng)
        return own(view) if own is not None else view, matrix

    def _place_crop(
        self, matrix: Matrix, height: int, width: int, polygons: Sequence[NDArray[np.float32]], rng: np.random.Generator
    ) -> Matrix:
        corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]) @ matrix[:2, :2].T + matrix[:2, 2]
        low, high = corners.min(axis=0), corners.max(axis=0)
        room = high - low + 1 - self.crop
        # A page smaller than the crop lands anywhere in it; of a larger one, no part beyond its edge is taken.
        first, last = low + np.minimum(room, 0), low + np.maximum(room, 0)
        if polygons and rng.random() < 0.9:
            polygon = polygons[int(rng.integers(len(polygons)))]
            anchor = matrix[:2, :2] @ polygon.mean(axis=0) + matrix[:2, 2]
            origin = np.clip(anchor - rng.uniform(0.1, 0.9, 2) * self.crop, first, last)
        else:
            origin = rng.uniform(first, last)
        return translation(-float(origin[0]), -float(origin[1]))

    def _jitter(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Brightness, contrast and tint as one table look-up per channel."""
        strength = self.augment.jitter
        if strength == 0:
            return image
        contrast = math.exp(rng.uniform(-strength, strength) * 2)
        shift = rng.uniform(-strength, strength) + rng.uniform(-strength, strength, 3) / 4
        levels = np.arange(256, dtype=np.float64)[:, None]
        table = (levels - 127.5) * contrast + 127.5 + 255 * shift / 2
        return cv2.LUT(image, table.clip(0, 255).astype(np.uint8)[None])  # type: ignore[return-value]
