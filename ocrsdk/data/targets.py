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

import itertools
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numba import njit

from ocrsdk.geometry import pack, polygon_offsetter
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
    points, ends = pack(polygons)
    if spec.clamp:
        np.clip(points, 0, [width - 1, height - 1], out=points)
    distances, visible_sides = _measure(points, ends, spec.shrink_ratio, height, width)
    flags = np.asarray(ignore, dtype=np.bool_).reshape(-1)
    if len(flags) != len(distances):
        raise ValueError(f"ignore needs one flag a polygon: {len(distances)}; found {len(flags)}")
    used = ~flags & (distances > 0) & (visible_sides >= spec.min_text_size)
    radii, boxes = np.where(used, distances, 0.0).tolist(), [(0, 0, width - 1, height - 1)] * len(used)
    vertices = points.astype(np.int64)
    for i, (start, end) in enumerate(itertools.pairwise(ends.tolist())):
        polygon, radius = vertices[start:end], radii[i]
        offset = polygon_offsetter(polygon) if radius else None
        shrunk = offset(-radius) if offset is not None else []
        if offset is None or not shrunk:
            radii[i] = 0.0
            _fill(prob_mask, polygon.astype(np.int32), 0)
            continue
        for piece in shrunk:
            _fill(prob_map, piece, 1)
        grown = offset(radius)[0]
        _fill(thresh_mask, grown, 1)
        if spec.distance == "db":
            x, y, w, h = cv2.boundingRect(grown)
            boxes[i] = max(0, x), max(0, y), min(width, x + w) - 1, min(height, y + h) - 1
    _draw_bands(nearness, points, ends, np.array(radii), np.array(boxes).reshape(-1, 4), spec.distance == "db")
    _finish(nearness, spec.thresh_min, spec.thresh_max)
    return TargetMaps(prob_map, prob_mask, nearness, thresh_mask)


@njit(cache=True)
def _measure(
    points: NDArray[np.float64], ends: NDArray[np.int64], ratio: float, height: int, width: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``D`` of each polygon in pixels (0 where it has less than one square pixel) and the shorter side of its box on the page."""
    distances, sides = np.zeros(len(ends) - 1), np.zeros(len(ends) - 1)
    for k in range(len(distances)):
        twice_area, length = 0.0, 0.0
        low_x = low_y = np.inf
        high_x = high_y = -np.inf
        for i in range(ends[k], ends[k + 1]):
            x, y = points[i, 0], points[i, 1]
            j = i + 1 if i + 1 < ends[k + 1] else ends[k]
            twice_area += x * points[j, 1] - y * points[j, 0]
            length += np.hypot(points[j, 0] - x, points[j, 1] - y)
            low_x, low_y, high_x, high_y = min(low_x, x), min(low_y, y), max(high_x, x), max(high_y, y)
        area = abs(twice_area) / 2
        if area >= 1:
            distances[k] = area * (1 - ratio * ratio) / length
        sides[k] = min(min(high_x, width - 1.0) - max(low_x, 0.0), min(high_y, height - 1.0) - max(low_y, 0.0))
    return distances, sides


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


@njit(cache=True)
def _draw_bands(
    nearness: NDArray[np.float32], points: NDArray[np.float64], ends: NDArray[np.int64],
    radii: NDArray[np.float64], boxes: NDArray[np.int64], db: bool,
) -> None:  # fmt: skip
    """Draw the band of every polygon whose radius is not 0."""
    for k in range(len(radii)):
        if radii[k] > 0:
            x0, y0, x1, y1 = boxes[k]
            _draw_band(nearness, points[ends[k] : ends[k + 1]], radii[k], x0, y0, x1, y1, db)


@njit(cache=True, fastmath=True)
def _finish(nearness: NDArray[np.float32], low: float, high: float) -> None:
    flat, one = nearness.reshape(-1), np.float32(1.0)
    start, rise = np.float32(low), np.float32(high - low)
    for k in range(flat.size):
        flat[k] = start + rise * (one - np.sqrt(min(flat[k], one)))
