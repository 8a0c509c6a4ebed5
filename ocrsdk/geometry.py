"""Polygons: area, order, clipping, offsets, matrices, intersection over union.

A polygon is an (N, 2) array of (x, y) points. The compiled kernels (numba) work on float64.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pyclipper
from numba import njit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]


@njit(cache=True)
def signed_area(points: FloatArray) -> float:
    """Shoelace area in square pixels; positive for clockwise as seen on screen (y down)."""
    total = 0.0
    n = len(points)
    for i in range(n):
        j = i + 1 if i + 1 < n else 0
        total += points[i, 0] * points[j, 1] - points[j, 0] * points[i, 1]
    return total / 2


def apply_matrix(points: ArrayLike, matrix: FloatArray) -> NDArray[np.float32]:
    """Apply a 3x3 ``matrix`` to (N, 2) points; a new array, the input is not changed."""
    source = np.asarray(points, dtype=np.float64)
    moved = source @ matrix[:2, :2].T + matrix[:2, 2]
    if matrix[2, 0] or matrix[2, 1] or matrix[2, 2] != 1:  # perspective
        moved /= (source @ matrix[2, :2] + matrix[2, 2])[:, None]
    return moved.astype(np.float32)


def apply_matrix_to_all(polygons: Sequence[NDArray[np.float32]], matrix: FloatArray) -> list[NDArray[np.float32]]:
    """``apply_matrix`` for many polygons at once; each result is a view of one array."""
    if not polygons:
        return []
    points = apply_matrix(np.concatenate(polygons), matrix)
    ends = list(itertools.accumulate(len(polygon) for polygon in polygons))
    return [points[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def clip_to_page(points: ArrayLike, height: int, width: int) -> NDArray[np.float32]:
    """The part of a polygon inside the page (Sutherland and Hodgman 1974); (0, 2) when nothing is left.

    The page reaches half a pixel around the outer pixel centres, so a box drawn on the last column survives.
    """
    page = np.array([[-0.5, -0.5], [width - 0.5, -0.5], [width - 0.5, height - 0.5], [-0.5, height - 0.5]])
    source = np.asarray(points, dtype=np.float64)
    out = np.empty((2 * (len(source) + 4), 2))
    count = _clip_convex(np.ascontiguousarray(source), page, out, np.empty_like(out))
    return out[:count].astype(np.float32)


def offset_polygon(points: ArrayLike, distance: float) -> list[NDArray[np.int32]]:
    """Grow (``distance`` > 0) or shrink a polygon with round joins (Clipper, Vatti 1992).

    Clipper works on integers: vertices are cut toward zero before, and rounded after, as in the original DB code.

    Returns:
        The pieces, (N, 2) int32 each; none when the polygon vanishes, several when a shrink splits it.
    """
    return polygon_offsetter(points)(distance)


def polygon_offsetter(points: ArrayLike) -> Callable[[float], list[NDArray[np.int32]]]:
    """``offset_polygon`` of one polygon for several distances."""
    offset = pyclipper.PyclipperOffset()
    try:
        offset.AddPath(np.asarray(points).astype(np.int64).tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    except pyclipper.ClipperException:  # fewer than three distinct vertices are left
        return lambda distance: []
    return lambda distance: [_vertices(piece) for piece in offset.Execute(distance)]


def _vertices(piece: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    return np.fromiter(itertools.chain.from_iterable(piece), np.int32, 2 * len(piece)).reshape(-1, 2)


@njit(cache=True)
def is_valid(points: FloatArray) -> bool:
    """True for a simple polygon: non-zero area, no edge crossing or touching another, no spike.

    A vertex written twice in a row is no fault.
    """
    points = _without_repeats(points)
    n = len(points)
    if n < 3 or signed_area(points) == 0.0:
        return False
    for i in range(n):
        i2 = (i + 1) % n
        for j in range(i + 1, n):
            j2 = (j + 1) % n
            if i2 == j or j2 == i:
                if _spike(points, i, i2, j, j2):
                    return False
            elif _segments_meet(points[i], points[i2], points[j], points[j2]):
                return False
    return True


@njit(cache=True)
def are_valid(points: FloatArray, offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """``is_valid`` for each of many polygons (see ``pack``)."""
    valid = np.empty(len(offsets) - 1, dtype=np.bool_)
    for i in range(len(valid)):
        valid[i] = is_valid(points[offsets[i] : offsets[i + 1]])
    return valid


@njit(cache=True)
def _without_repeats(points: FloatArray) -> FloatArray:
    n, kept = len(points), 0
    distinct = np.empty_like(points)
    for i in range(n):
        j = i + 1 if i + 1 < n else 0
        if points[i, 0] != points[j, 0] or points[i, 1] != points[j, 1]:
            distinct[kept, 0], distinct[kept, 1] = points[i, 0], points[i, 1]
            kept += 1
    return distinct[:kept]


@njit(cache=True)
def _cross(o: FloatArray, a: FloatArray, b: FloatArray) -> float:
    return (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0])  # type: ignore[no-any-return]


@njit(cache=True)
def _spike(points: FloatArray, i: int, i2: int, j: int, j2: int) -> bool:
    """Do two neighbouring edges fold back onto each other?"""
    middle, first, last = (points[i2], points[i], points[j2]) if i2 == j else (points[i], points[i2], points[j])
    if _cross(middle, first, last) != 0.0:
        return False
    along = (first[0] - middle[0]) * (last[0] - middle[0]) + (first[1] - middle[1]) * (last[1] - middle[1])
    return bool(along > 0.0)


@njit(cache=True)
def _on_segment(a: FloatArray, b: FloatArray, p: FloatArray) -> bool:
    return bool(min(a[0], b[0]) <= p[0] <= max(a[0], b[0]) and min(a[1], b[1]) <= p[1] <= max(a[1], b[1]))


@njit(cache=True)
def _segments_meet(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray) -> bool:
    d1, d2, d3, d4 = _cross(c, d, a), _cross(c, d, b), _cross(a, b, c), _cross(a, b, d)
    if ((d1 > 0 > d2) or (d1 < 0 < d2)) and ((d3 > 0 > d4) or (d3 < 0 < d4)):
        return True
    return (
        (d1 == 0 and _on_segment(c, d, a))
        or (d2 == 0 and _on_segment(c, d, b))
        or (d3 == 0 and _on_segment(a, b, c))
        or (d4 == 0 and _on_segment(a, b, d))
    )


@njit(cache=True)
def _clip_convex(subject: FloatArray, clip: FloatArray, out: FloatArray, scratch: FloatArray) -> int:
    """Clip ``subject`` by the clockwise convex ``clip``; the result is in ``out``, its length is returned."""
    count = len(subject)
    for i in range(count):
        out[i] = subject[i]
    m = len(clip)
    for k in range(m):
        ax, ay = clip[k, 0], clip[k, 1]
        k2 = k + 1 if k + 1 < m else 0
        ex, ey = clip[k2, 0] - ax, clip[k2, 1] - ay
        kept = 0
        for i in range(count):
            px, py = out[i, 0], out[i, 1]
            j = i + 1 if i + 1 < count else 0
            qx, qy = out[j, 0], out[j, 1]
            side_p = ex * (py - ay) - ey * (px - ax)
            side_q = ex * (qy - ay) - ey * (qx - ax)
            if side_p >= 0:
                scratch[kept, 0], scratch[kept, 1] = px, py
                kept += 1
            if (side_p > 0 and side_q < 0) or (side_p < 0 and side_q > 0):
                t = side_p / (side_p - side_q)
                scratch[kept, 0], scratch[kept, 1] = px + t * (qx - px), py + t * (qy - py)
                kept += 1
        count = kept
        for i in range(count):
            out[i] = scratch[i]
        if count == 0:
            break
    return count


@njit(cache=True)
def _is_convex(points: FloatArray) -> bool:
    n = len(points)
    for i in range(n):
        if _cross(points[i], points[(i + 1) % n], points[(i + 2) % n]) < 0:
            return False
    return n <= 4  # a longer outline may turn more than once around; triangles treat it right


@njit(cache=True)
def intersection_area(a: FloatArray, b: FloatArray) -> float:
    """Area common to two simple clockwise polygons, in square pixels.

    Convex quads are clipped directly. Any other polygon is the signed sum of the triangles of a fan around its first
    vertex, and the area common to two such sums is the signed sum over all pairs of triangles.
    """
    size = 2 * (len(a) + len(b)) + 8
    out, scratch = np.empty((size, 2)), np.empty((size, 2))
    if _is_convex(a) and _is_convex(b):
        count = _clip_convex(a, b, out, scratch)
        return abs(signed_area(out[:count])) if count > 2 else 0.0
    total = 0.0
    s, t = np.empty((3, 2)), np.empty((3, 2))
    for i in range(1, len(a) - 1):
        sign_s = _fan_triangle(a, i, s)
        if sign_s == 0.0:
            continue
        for j in range(1, len(b) - 1):
            sign_t = _fan_triangle(b, j, t)
            if sign_t == 0.0:
                continue
            count = _clip_convex(s, t, out, scratch)
            if count > 2:
                total += sign_s * sign_t * abs(signed_area(out[:count]))
    return max(total, 0.0)


@njit(cache=True)
def _fan_triangle(points: FloatArray, i: int, triangle: FloatArray) -> float:
    """Write triangle (0, i, i+1) clockwise; return +1, -1 (it was the other way round) or 0 (it is flat)."""
    triangle[0], triangle[1], triangle[2] = points[0], points[i], points[i + 1]
    area = signed_area(triangle)
    if area < 0:
        triangle[1], triangle[2] = points[i + 1], points[i]
    return float(np.sign(area))


@njit(cache=True)
def _pairwise_intersection(
    points_a: FloatArray, offsets_a: NDArray[np.int64], points_b: FloatArray, offsets_b: NDArray[np.int64]
) -> FloatArray:
    n, m = len(offsets_a) - 1, len(offsets_b) - 1
    result = np.zeros((n, m))
    boxes_a, boxes_b = _boxes(points_a, offsets_a), _boxes(points_b, offsets_b)
    straight_a, straight_b = _are_straight(points_a, offsets_a), _are_straight(points_b, offsets_b)
    for i in range(n):
        for j in range(m):
            wide = min(boxes_a[i, 2], boxes_b[j, 2]) - max(boxes_a[i, 0], boxes_b[j, 0])
            tall = min(boxes_a[i, 3], boxes_b[j, 3]) - max(boxes_a[i, 1], boxes_b[j, 1])
            if wide <= 0 or tall <= 0:
                continue
            if straight_a[i] and straight_b[j]:
                result[i, j] = wide * tall
            else:
                result[i, j] = intersection_area(
                    points_a[offsets_a[i] : offsets_a[i + 1]], points_b[offsets_b[j] : offsets_b[j + 1]]
                )
    return result


@njit(cache=True)
def _boxes(points: FloatArray, offsets: NDArray[np.int64]) -> FloatArray:
    boxes = np.empty((len(offsets) - 1, 4))
    for i in range(len(offsets) - 1):
        low_x = low_y = np.inf
        high_x = high_y = -np.inf
        for k in range(offsets[i], offsets[i + 1]):
            low_x, high_x = min(low_x, points[k, 0]), max(high_x, points[k, 0])
            low_y, high_y = min(low_y, points[k, 1]), max(high_y, points[k, 1])
        boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3] = low_x, low_y, high_x, high_y
    return boxes


@njit(cache=True)
def _are_straight(points: FloatArray, offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which polygons are rectangles with level sides."""
    found = np.zeros(len(offsets) - 1, dtype=np.bool_)
    for i in range(len(offsets) - 1):
        k = offsets[i]
        if offsets[i + 1] - k != 4:
            continue
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = points[k], points[k + 1], points[k + 2], points[k + 3]
        level = ay == by and bx == cx and cy == dy and dx == ax
        upright = ax == bx and by == cy and cx == dx and dy == ay
        found[i] = (level or upright) and ax != cx and ay != cy
    return found


@njit(cache=True)
def _prepare(points: FloatArray, offsets: NDArray[np.int64]) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Clockwise copies, areas and validity of ragged polygons."""
    clockwise = points.copy()
    n = len(offsets) - 1
    areas, valid = np.empty(n), _are_straight(points, offsets)
    for i in range(n):
        part = points[offsets[i] : offsets[i + 1]]
        area = signed_area(part)
        areas[i], valid[i] = abs(area), valid[i] or is_valid(part)
        if area < 0:
            clockwise[offsets[i] : offsets[i + 1]] = part[::-1]
    return clockwise, areas, valid


def pack(polygons: Sequence[ArrayLike] | NDArray[np.floating]) -> tuple[FloatArray, NDArray[np.int64]]:
    """Ragged polygons, or (n, N, 2), as points (P, 2) float64 and offsets: item i is ``points[offsets[i]:offsets[i+1]]``."""
    if isinstance(polygons, np.ndarray) and polygons.ndim == 3 and polygons.shape[2] == 2:  # all of one length
        return polygons.reshape(-1, 2).astype(np.float64), np.arange(len(polygons) + 1) * polygons.shape[1]
    offsets = np.array([0, *itertools.accumulate(len(polygon) for polygon in polygons)], dtype=np.int64)  # type: ignore[arg-type]
    points = np.concatenate(polygons, dtype=np.float64) if len(polygons) else np.empty((0, 2))
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"a polygon is an array of (N, 2) points; found the shape {np.shape(polygons[0])}")
    return points, offsets


@njit(cache=True)
def overlaps(
    points_a: FloatArray, offsets_a: NDArray[np.int64], points_b: FloatArray, offsets_b: NDArray[np.int64]
) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.bool_], NDArray[np.bool_]]:
    """All pairs of two ragged lists of polygons (see ``pack``).

    Returns:
        Common areas (n, m), areas (n,) and (m,) in square pixels, and which polygons are valid (n,) and (m,).
        Rows and columns of invalid polygons carry no meaning.
    """
    a, areas_a, valid_a = _prepare(points_a, offsets_a)
    b, areas_b, valid_b = _prepare(points_b, offsets_b)
    return _pairwise_intersection(a, offsets_a, b, offsets_b), areas_a, areas_b, valid_a, valid_b
