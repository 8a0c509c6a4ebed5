"""From a probability map to polygons with scores (Liao et al. 2020, section 3.5).

The steps are those of the original ``SegDetectorRepresenter``: threshold, contours, minimum-area rectangle, mean score inside it,
grow by ``D = area * ratio / perimeter``. A rectangle grows in closed form (each side moves out by ``D``) without the cut to
integers that the original's polygon clipper makes; polygons grow with Clipper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

from ocrsdk.geometry import apply_matrix
from ocrsdk.types import Detection

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape = Literal["quad", "polygon"]

_CLIPPER_SCALE = 64
"""Polygons are offset in 1/64 pixel."""


@dataclass(frozen=True)
class PostProcessor:
    """Turns probability maps into detections."""

    threshold: float = 0.3
    """A pixel is text above this probability."""
    box_threshold: float = 0.45
    """Regions with a lower mean probability are dropped."""
    unclip_ratio: float = 1.2
    """How far regions are grown back; the counterpart of the targets' shrink."""
    min_side: float = 3.0
    """Regions thinner than this many pixels of the map are dropped; after growing, 2 pixels more."""
    max_candidates: int = 1000
    """At most this many contours are looked at."""
    shape: Shape = "quad"
    """``quad``: four corners. ``polygon``: the outline, for curved text."""

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
        binary = (prob_map > self.threshold).view(np.uint8)
        contours, _ = cv2.findContours(binary, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        contours = contours[: self.max_candidates]
        find = self._quads if self.shape == "quad" else self._polygons
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

    def _quads(self, prob_map: NDArray[np.float32], contours: Any) -> tuple[Any, list[float]]:
        rectangles, scores = [], []
        for contour in contours:
            if len(contour) < 3:  # a point or a line has no area
                continue
            rectangle = cv2.minAreaRect(contour)
            width, height = rectangle[1]
            if min(width, height) < self.min_side:
                continue
            grow = width * height * self.unclip_ratio / (width + height)  # 2 D
            if min(width, height) + grow < self.min_side + 2:
                continue
            score = _mean_inside(prob_map, cv2.boxPoints(rectangle))
            if score >= self.box_threshold:
                rectangles.append((*rectangle[0], width + grow, height + grow, rectangle[2]))
                scores.append(score)
        return _corners(np.array(rectangles, dtype=np.float64).reshape(-1, 5)), scores

    def _polygons(self, prob_map: NDArray[np.float32], contours: Any) -> tuple[Any, list[float]]:
        import pyclipper

        polygons, scores = [], []
        for contour in contours:
            outline = cv2.approxPolyDP(contour, 0.002 * cv2.arcLength(contour, True), True).reshape(-1, 2)
            if len(outline) < 4:
                continue
            score = _mean_inside(prob_map, outline)
            if score < self.box_threshold:
                continue
            distance = cv2.contourArea(outline) * self.unclip_ratio / cv2.arcLength(outline, True)
            offset = pyclipper.PyclipperOffset(arc_tolerance=0.25 * _CLIPPER_SCALE)
            offset.AddPath((outline * _CLIPPER_SCALE).tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
            pieces = offset.Execute(distance * _CLIPPER_SCALE)
            if len(pieces) != 1:  # a nearly closed ring grows into an outline and a hole
                continue
            polygon = np.array(pieces[0], dtype=np.float64) / _CLIPPER_SCALE
            if min(cv2.minAreaRect(polygon.astype(np.float32))[1]) >= self.min_side + 2:
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


def _corners(rectangles: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 5) centre x, y, width, height, degrees -> (n, 4, 2): top-left, top-right, bottom-right, bottom-left."""
    angle = np.deg2rad(rectangles[:, 4])
    along = np.stack([np.cos(angle), np.sin(angle)], 1)[:, None] * (rectangles[:, 2] / 2)[:, None, None]
    across = np.stack([-np.sin(angle), np.cos(angle)], 1)[:, None] * (rectangles[:, 3] / 2)[:, None, None]
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=np.float64)
    quads = rectangles[:, None, :2] + signs[None, :, :1] * along + signs[None, :, 1:] * across
    # The left pair and the right pair, each from top to bottom.
    by_x = np.take_along_axis(quads, np.argsort(quads[:, :, :1], axis=1, kind="stable"), axis=1)
    left, right = (np.take_along_axis(p, np.argsort(p[:, :, 1:], axis=1), axis=1) for p in (by_x[:, :2], by_x[:, 2:]))
    return np.stack([left[:, 0], right[:, 0], right[:, 1], left[:, 1]], axis=1)
