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
    image = read_image(page.image)
    if annotation is not None:
        for instance in annotation.instances:
            draw_polygons(image, [instance.polygon], IGNORED if instance.ignore else TRUTH, 1)
    draw_polygons(image, [d.polygon for d in page.detections], FOUND)
    write_image(target, image)
