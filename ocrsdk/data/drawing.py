"""Pictures of detections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ocrsdk.data.image import read_image, write_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from ocrsdk.types import Annotation, PageDetections

FOUND, TRUTH, IGNORED = (0, 150, 60), (220, 60, 40), (150, 150, 150)
"""RGB of detections, of annotated text, and of don't-care regions."""


def draw_polygons(image: NDArray[np.uint8], polygons: Sequence[ArrayLike], colour: tuple[int, int, int], width: int = 2) -> None:
    """Draw outlines into (H, W, 3) uint8 RGB, in place."""
    shift = 4
    scaled = [np.round(np.asarray(p, dtype=np.float64) * (1 << shift)).astype(np.int32) for p in polygons]
    cv2.polylines(image, scaled, isClosed=True, color=colour, thickness=width, lineType=cv2.LINE_AA, shift=shift)


def draw_page(page: PageDetections, target: Path, annotation: Annotation | None = None) -> None:
    """Write the page with its detections (green) and, if given, the annotated text (red; grey: don't care) to ``target``."""
    write_image(target, page_picture(page, annotation))


def page_picture(
    page: PageDetections,
    annotation: Annotation | None = None,
    max_side: int | None = None,
    image: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """The page with its detections (green) and, if given, the annotated text (red; grey: don't care), as (H, W, 3) uint8 RGB.

    Args:
        page: What was found.
        annotation: What there is.
        max_side: Shrink the picture to this longer side in pixels.
        image: Its pixels, which are drawn on; read from its file if None.
    """
    image = read_image(page.image) if image is None else image
    if annotation is not None:
        for instance in annotation.instances:
            draw_polygons(image, [instance.polygon], IGNORED if instance.ignore else TRUTH, 1)
    draw_polygons(image, [d.polygon for d in page.detections], FOUND)
    if max_side is not None and max(image.shape[:2]) > max_side:
        scale = max_side / max(image.shape[:2])
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return image
