"""From a probability map to polygons with scores (Liao et al. 2020, section 3.5).

The steps are those of the original ``SegDetectorRepresenter``: threshold, contours, minimum-area rectangle, mean score inside it,
grow by ``D = area * ratio / perimeter``. A rectangle grows in closed form (each side moves out by ``D``) without the cut to
integers that the original's polygon clipper makes; polygons grow with Clipper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numba import njit

from ocrsdk.geometry import apply_matrix
from ocrsdk.logs import get_logger
from ocrsdk.settings.sections import PostProcessSettings
from ocrsdk.types import Detection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_CLIPPER_SCALE = 64
"""Polygons are offset in 1/64 pixel."""


class PostProcessor:
    """Turns probability maps into detections.

    Args:
        settings: Thresholds and shape; the settings' defaults if None.
    """

    def __init__(self, settings: PostProcessSettings | None = None) -> None:
        self.settings = settings or PostProcessSettings()
        self._has_told = False

    def __call__(
        self,
        prob_map: NDArray[np.float32],
        matrix: NDArray[np.float64] | None = None,
        size: tuple[int, int] | None = None,
    ) -> list[Detection]:
        """Detections in one image, in the order of their contours.

        Args:
            prob_map: (H, W) probabilities, 0 to 1.
            matrix: (3, 3) from original pixels to pixels of the map; identity by default.
            size: (height, width) of the original, to which points are clamped; the map's by default.
        """
        prob_map = np.ascontiguousarray(prob_map, dtype=np.float32)
        binary = (prob_map > self.settings.threshold).view(np.uint8)
        contours, _ = cv2.findContours(binary, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        if len(contours) > self.settings.max_candidates:
            contours = self._largest(contours)
        find = self._quads if self.settings.shape == "quad" else self._polygons
        polygons, scores = find(prob_map, contours)
        if len(polygons) == 0:
            return []
        points = np.concatenate(polygons)  # all at once: a call of numpy for each polygon costs more than its arithmetic
        if matrix is not None:
            points = apply_matrix(points, np.linalg.inv(matrix).astype(np.float64))
        height, width = size or prob_map.shape
        points = np.clip(points.astype(np.float32), 0, np.array([width, height], dtype=np.float32))
        ends = np.cumsum([len(polygon) for polygon in polygons]).tolist()
        starts = [0, *ends[:-1]]
        return [Detection(points[a:b], score) for a, b, score in zip(starts, ends, scores, strict=True)]

    def _largest(self, contours: Sequence[Any]) -> list[Any]:
        """The largest ones, in the order that they have: what is left out first is specks."""
        most = self.settings.max_candidates
        if not self._has_told:
            self._has_told = True
            get_logger(__name__).warning(
                "a page has more regions than are looked at; the smallest are left out. To look at all: postprocess.max_candidates",
                regions=len(contours), max_candidates=most,
            )  # fmt: skip
        areas = np.array([cv2.contourArea(contour) for contour in contours])
        return [contours[i] for i in sorted(np.argsort(-areas, kind="stable")[:most])]

    def _quads(self, prob_map: NDArray[np.float32], contours: Any) -> tuple[Any, list[float]]:
        # a point or a line, of less than three points, has no area
        found = [cv2.minAreaRect(contour) for contour in contours if len(contour) >= 3]
        rectangles = np.array([(*centre, *sides, angle) for centre, sides, angle in found], dtype=np.float64).reshape(-1, 5)
        sides = rectangles[:, 2:4]
        thin, grow = (
            sides.min(axis=1),
            sides.prod(axis=1) * self.settings.unclip_ratio / np.maximum(sides.sum(axis=1), 1e-9),
        )  # grow = 2 D
        thick = (thin >= self.settings.min_side) & (thin + grow >= self.settings.min_side + 2)
        rectangles, grow = rectangles[thick], grow[thick]
        scores = _mean_inside_quads(prob_map, _corners(rectangles).astype(np.float32).astype(np.int64))
        kept = scores >= self.settings.box_threshold
        rectangles, grow = rectangles[kept], grow[kept]
        rectangles[:, 2:4] += grow[:, None]
        return _corners(rectangles), scores[kept].tolist()

    def _polygons(self, prob_map: NDArray[np.float32], contours: Any) -> tuple[Any, list[float]]:
        import pyclipper

        polygons, scores = [], []
        for contour in contours:
            outline = cv2.approxPolyDP(contour, 0.002 * cv2.arcLength(contour, True), True).reshape(-1, 2)
            if len(outline) < 4:
                continue
            score = _mean_inside(prob_map, outline)
            if score < self.settings.box_threshold:
                continue
            distance = cv2.contourArea(outline) * self.settings.unclip_ratio / cv2.arcLength(outline, True)
            offset = pyclipper.PyclipperOffset(arc_tolerance=0.25 * _CLIPPER_SCALE)
            offset.AddPath((outline * _CLIPPER_SCALE).tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
            pieces = offset.Execute(distance * _CLIPPER_SCALE)
            if len(pieces) != 1:  # a nearly closed ring grows into an outline and a hole
                continue
            polygon = np.array(pieces[0], dtype=np.float64) / _CLIPPER_SCALE
            if min(cv2.minAreaRect(polygon.astype(np.float32))[1]) >= self.settings.min_side + 2:
                polygons.append(polygon)
                scores.append(score)
        return polygons, scores


def _mean_inside(prob_map: NDArray[np.float32], polygon: NDArray[Any]) -> float:
    """Mean probability over the pixels of a polygon whose vertices are cut to integers, outline included."""
    height, width = prob_map.shape
    x, y, box_width, box_height = cv2.boundingRect(polygon)
    x0, y0 = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    x1, y1 = min(x + box_width, width - 1), min(y + box_height, height - 1)
    mask = np.zeros((y1 - y0 + 1, x1 - x0 + 1), dtype=np.uint8)
    cv2.fillPoly(mask, [polygon.astype(np.int32)], (1,), offset=(-x0, -y0))
    return float(cv2.mean(prob_map[y0 : y1 + 1, x0 : x1 + 1], mask)[0])


@njit(cache=True, fastmath=True)
def _mean_inside_quads(prob_map: NDArray[np.float32], quads: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean probability inside of convex quads (n, 4, 2), outline included, as far as they lie on the map.

    A row of a convex shape is one run of pixels, here between the lines of Bresenham (1965) from corner to corner, each drawn
    from its left end: the pixels that ``cv2.fillPoly`` fills on a canvas that holds the whole quad.
    """
    height, width = prob_map.shape
    means = np.empty(len(quads))
    low, high = np.empty(height, dtype=np.int64), np.empty(height, dtype=np.int64)
    for k in range(len(quads)):
        quad = quads[k]
        first, last = max(quad[:, 1].min(), 0), min(quad[:, 1].max(), height - 1)
        low[first : last + 1], high[first : last + 1] = width, -1
        for i in range(4):
            (ax, ay), (bx, by) = (quad[i, 0], quad[i, 1]), (quad[(i + 1) % 4, 0], quad[(i + 1) % 4, 1])
            if ax > bx:
                ax, ay, bx, by = bx, by, ax, ay
            run, rise, down = bx - ax, abs(by - ay), 1 if by > ay else -1
            for m in range(rise + 1):
                y = ay + m * down
                if y < first or y > last:
                    continue
                if rise == 0:
                    left, right = 0, run
                elif run >= rise:
                    left = max((2 * m - 1) * run // (2 * rise) + 1, 0)
                    right = min((2 * m + 1) * run // (2 * rise), run)
                else:
                    left = right = -((rise - 2 * m * run) // (2 * rise))
                low[y], high[y] = min(low[y], ax + left), max(high[y], ax + right)
        total, count = 0.0, 0
        for y in range(first, last + 1):
            start, stop = max(low[y], 0), min(high[y], width - 1) + 1
            for x in range(start, stop):
                total += prob_map[y, x]
            count += max(stop - start, 0)
        means[k] = total / count if count else 0.0
    return means


@njit(cache=True)
def _corners(rectangles: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 5) centre x, y, width, height, degrees -> (n, 4, 2): top-left, top-right, bottom-right, bottom-left."""
    quads = np.empty((len(rectangles), 4, 2))
    corners = np.empty((4, 2))
    for k in range(len(rectangles)):
        x, y, width, height, degrees = rectangles[k]
        angle = np.deg2rad(degrees)
        c, s = np.cos(angle) / 2, np.sin(angle) / 2
        for i in range(4):
            along, across = width * (-1 if i in (0, 3) else 1), height * (-1 if i < 2 else 1)
            corners[i, 0], corners[i, 1] = x + along * c - across * s, y + along * s + across * c
        order = np.argsort(corners[:, 0], kind="mergesort")  # the left pair and the right pair, each from top to bottom
        for side in range(2):
            first, second = order[2 * side], order[2 * side + 1]
            if corners[first, 1] > corners[second, 1]:
                first, second = second, first
            quads[k, side], quads[k, 3 - side] = corners[first], corners[second]
    return quads
