"""Text that the border of a crop cuts: what is left of a character there says nothing about text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ocrsdk.types import TargetMaps


def are_cut(polygons: Sequence[NDArray[np.float32]], height: int, width: int) -> NDArray[np.bool_]:
    """(n,) Which polygons reach beyond a page."""
    corner = np.array([width - 0.5, height - 0.5])
    return np.array([bool((p.min(axis=0) < -0.5).any() or (p.max(axis=0) > corner).any()) for p in polygons], np.bool_)


def mask_cut_ends(maps: TargetMaps[NDArray[Any]], polygons: Sequence[NDArray[np.float32]], cut: NDArray[np.bool_]) -> None:
    """Judge no pixel of a cut text that lies closer to the border than half its height, which is about a character.

    Args:
        maps: Of the crop; their masks are changed.
        polygons: (N, 2) outlines in its pixels.
        cut: (n,) Those that are cut and that count.
    """
    height, width = maps.prob_map.shape
    for index in np.flatnonzero(cut).tolist():
        polygon = polygons[index]
        edges = polygon - np.roll(polygon, 1, axis=0)
        perimeter = float(np.hypot(edges[:, 0], edges[:, 1]).sum())
        half = abs(float(cv2.contourArea(polygon))) / max(perimeter, 1.0)
        band = min(math.ceil(half), height, width)
        low, high = polygon.min(axis=0), polygon.max(axis=0)
        windows = (
            (low[0] < -0.5, slice(None), slice(0, band)),
            (low[1] < -0.5, slice(0, band), slice(None)),
            (high[0] > width - 0.5, slice(None), slice(width - band, width)),
            (high[1] > height - 0.5, slice(height - band, height), slice(None)),
        )
        for is_cut, rows, columns in windows:
            if not is_cut or not band:
                continue
            near = np.zeros_like(maps.prob_map[rows, columns])
            corners = np.rint(polygon - (columns.start or 0, rows.start or 0)).astype(np.int32)
            cv2.fillPoly(near, [corners], (1,))
            cv2.polylines(near, [corners], True, (1,), 2 * math.ceil(half) + 1)  # as far as the threshold map is drawn
            for mask in (maps.prob_mask, maps.thresh_mask):
                mask[rows, columns][near > 0] = 0
