"""Target maps of DB detectors (Liao et al. 2020, "Real-time Scene Text Detection with Differentiable Binarization").

Each text polygon is shrunk by ``D = area * (1 - ratio^2) / perimeter`` for the probability map and grown by ``D`` for the
threshold mask. The threshold map falls from ``thresh_max`` on the outline to ``thresh_min`` at distance ``D``. Two
definitions of the distance of a pixel to an edge are available:

- ``exact``: the distance to the segment.
- ``db``: that of the original implementation. The perpendicular distance holds only inside the circle over the edge, else
  the nearer end point counts; and the band is cut at the integer box of the grown polygon.

No temporaries: each edge visits only the pixels near it and keeps the least ``(d / D)^2`` in the map itself; one
square root over the page ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numba import njit

from ocrsdk.geometry import polygon_offsetter
from ocrsdk.settings.sections import TargetSettings
from ocrsdk.types import TargetMaps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


def draw_targets(
    polygons: Sequence[ArrayLike], ignore: ArrayLike, height: int, width: int, spec: TargetSettings | None = None
) -> TargetMaps[NDArray[Any]]:
    """Draw the four maps of one page.

    Args:
        polygons: (N, 2) outlines in pixels, any winding, N >= 3. They are not changed.
        ignore: (n,) don't-care flags.
        height: Page height in pixels.
        width: Page width in pixels.
        spec: Parameters; the paper's by default.

    Returns:
        Maps of shape (height, width): probability map and both masks uint8, threshold map float32.
    """
    spec = spec or TargetSettings()
    prob_map = np.zeros((height, width), dtype=np.uint8)
    prob_mask = np.ones((height, width), dtype=np.uint8)
    thresh_mask = np.zeros((height, width), dtype=np.uint8)
    nearness = np.ones((height, width), dtype=np.float32)
    for points, ignored in zip(polygons, np.asarray(ignore, dtype=np.bool_).reshape(-1), strict=True):
        polygon = np.array(points, dtype=np.float64)
        if spec.clamp:
            np.clip(polygon, 0, [width - 1, height - 1], out=polygon)
        distance, visible_side = _measure(polygon, spec.shrink_ratio, height, width)
        used = not (ignored or distance == 0 or visible_side < spec.min_text_size)
        offset = polygon_offsetter(polygon) if used else None
        shrunk = offset(-distance) if offset is not None else []
        if offset is None or not shrunk:
            _fill(prob_mask, polygon.astype(np.int32), 0)
            continue
        for piece in shrunk:
            _fill(prob_map, piece, 1)
        grown = offset(distance)[0]
        _fill(thresh_mask, grown, 1)
        x0, y0, x1, y1 = 0, 0, width - 1, height - 1
        if spec.distance == "db":
            x, y, w, h = cv2.boundingRect(grown)
            x0, y0, x1, y1 = max(x0, x), max(y0, y), min(x1, x + w - 1), min(y1, y + h - 1)
        _draw_band(nearness, polygon, distance, x0, y0, x1, y1, spec.distance == "db")
    _finish(nearness, spec.thresh_min, spec.thresh_max)
    return TargetMaps(prob_map, prob_mask, nearness, thresh_mask)


@njit(cache=True)
def _measure(polygon: NDArray[np.float64], ratio: float, height: int, width: int) -> tuple[float, float]:
    """``D`` in pixels (0 for a polygon of less than one square pixel) and the shorter side of the box on the page."""
    twice_area, length = 0.0, 0.0
    low_x = low_y = np.inf
    high_x = high_y = -np.inf
    n = len(polygon)
    for i in range(n):
        x, y = polygon[i, 0], polygon[i, 1]
        j = i + 1 if i + 1 < n else 0
        twice_area += x * polygon[j, 1] - y * polygon[j, 0]
        length += np.hypot(polygon[j, 0] - x, polygon[j, 1] - y)
        low_x, low_y, high_x, high_y = min(low_x, x), min(low_y, y), max(high_x, x), max(high_y, y)
    area = abs(twice_area) / 2
    distance = area * (1 - ratio * ratio) / length if area >= 1 else 0.0
    wide = min(high_x, width - 1.0) - max(low_x, 0.0)
    tall = min(high_y, height - 1.0) - max(low_y, 0.0)
    return distance, min(wide, tall)


def _fill(image: NDArray[np.uint8], polygon: NDArray[np.int32], value: int) -> None:
    cv2.fillPoly(image, [polygon], (value,))


@njit(cache=True, fastmath=True, error_model="numpy")
def _exact_row(row: NDArray[np.float32], lo: int, hi: int, dx0: float, dy: float, ux: float, uy: float,
               length: float, scale: float) -> None:  # fmt: skip
    for x in range(lo, hi):
        dx = dx0 + (x - lo)
        along = dx * ux + dy * uy
        foot = min(max(along, 0.0), length)
        ex, ey = dx - foot * ux, dy - foot * uy
        value = np.float32((ex * ex + ey * ey) * scale)
        row[x] = min(row[x], value)


@njit(cache=True, fastmath=True, error_model="numpy")
def _db_row(row: NDArray[np.float32], lo: int, hi: int, dx0: float, dy: float, ex: float, ey: float,
            inverse_square: float, scale: float) -> None:  # fmt: skip
    for x in range(lo, hi):
        dx = dx0 + (x - lo)
        fx, fy = dx - ex, dy - ey
        to_a, to_b = dx * dx + dy * dy, fx * fx + fy * fy
        cross = dx * ey - dy * ex
        inside = dx * fx + dy * fy <= 0.0
        square = cross * cross * inverse_square if inside else min(to_a, to_b)
        row[x] = min(row[x], np.float32(square * scale))


@njit(cache=True)
def _draw_band(
    nearness: NDArray[np.float32], polygon: NDArray[np.float64], radius: float,
    x0: int, y0: int, x1: int, y1: int, db: bool,
) -> None:  # fmt: skip
    """Lower ``nearness`` to the least ``(d / radius)^2`` over the edges, in the inclusive window.

    Of each row an edge visits what lies both in the strip of ``radius`` about its line and in its own grown box: every pixel
    within ``radius``, and a few beyond, which ``_finish`` cuts off.
    """
    n = len(polygon)
    scale = 1.0 / (radius * radius)
    for i in range(n):
        ax, ay = polygon[i, 0], polygon[i, 1]
        j = i + 1 if i + 1 < n else 0
        bx, by = polygon[j, 0], polygon[j, 1]
        length = np.hypot(bx - ax, by - ay)
        if length == 0.0:
            continue
        ux, uy = (bx - ax) / length, (by - ay) / length
        left, right = min(ax, bx) - radius, max(ax, bx) + radius
        flat = abs(uy) < 1e-9
        slope, half = (0.0, np.inf) if flat else (ux / uy, radius / abs(uy))
        first = max(y0, int(np.ceil(min(ay, by) - radius)))
        last = min(y1, int(np.floor(max(ay, by) + radius)))
        for y in range(first, last + 1):
            middle = ax + (y - ay) * slope
            low, high = max(left, middle - half, float(x0)), min(right, middle + half, float(x1))
            if low > high:
                continue
            lo, hi = int(np.ceil(low)), int(np.floor(high)) + 1
            if db:
                _db_row(nearness[y], lo, hi, lo - ax, y - ay, bx - ax, by - ay, 1.0 / (length * length), scale)
            else:
                _exact_row(nearness[y], lo, hi, lo - ax, y - ay, ux, uy, length, scale)


@njit(cache=True, fastmath=True)
def _finish(nearness: NDArray[np.float32], low: float, high: float) -> None:
    flat, one = nearness.reshape(-1), np.float32(1.0)
    start, rise = np.float32(low), np.float32(high - low)
    for k in range(flat.size):
        flat[k] = start + rise * (one - np.sqrt(min(flat[k], one)))
