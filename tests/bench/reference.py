"""The algorithms of the original DB code, written the way it works: numpy over boxes, Clipper and shapely per polygon.

Own code after the published description (Liao et al. 2020), with the same passes and temporaries per polygon, so that its times
stand for those of the pipelines that share this design.
"""

from __future__ import annotations

import cv2
import numpy as np
import pyclipper
from shapely.geometry import Polygon


def _offset(points: np.ndarray, distance: float) -> list[np.ndarray]:
    offset = pyclipper.PyclipperOffset()
    offset.AddPath([tuple(p) for p in points], pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    return [np.array(path).reshape(-1, 2) for path in offset.Execute(distance)]


def shrink_maps(polygons: list[np.ndarray], size: int, ratio: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Probability map and its mask."""
    prob_map, mask = np.zeros((size, size), np.float32), np.ones((size, size), np.float32)
    for polygon in polygons:
        height, width = np.ptp(polygon[:, 1]), np.ptp(polygon[:, 0])
        shape = Polygon(polygon)
        if min(height, width) < 8 or shape.area < 1:
            cv2.fillPoly(mask, polygon.astype(np.int32)[None], 0)
            continue
        shrunk = _offset(polygon, -shape.area * (1 - ratio**2) / shape.length)
        if not shrunk:
            cv2.fillPoly(mask, polygon.astype(np.int32)[None], 0)
            continue
        cv2.fillPoly(prob_map, [shrunk[0].astype(np.int32)], 1)
    return prob_map, mask


def _edge_distance(xs: np.ndarray, ys: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    to_a = np.square(xs - a[0]) + np.square(ys - a[1])
    to_b = np.square(xs - b[0]) + np.square(ys - b[1])
    edge = np.square(a[0] - b[0]) + np.square(a[1] - b[1])
    cosine = (edge - to_a - to_b) / (2 * np.sqrt(to_a * to_b) + 1e-12)
    square_sine = np.nan_to_num(1 - np.square(cosine))
    result = np.sqrt(np.abs(to_a * to_b * square_sine / (edge + 1e-12)))
    beside = cosine < 0  # outside the circle over the edge
    result[beside] = np.sqrt(np.fmin(to_a, to_b))[beside]
    return result


def border_maps(polygons: list[np.ndarray], size: int, ratio: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Threshold map and its mask."""
    canvas, mask = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    for polygon in polygons:
        shape = Polygon(polygon)
        distance = shape.area * (1 - ratio**2) / shape.length
        grown = _offset(polygon, distance)[0]
        cv2.fillPoly(mask, [grown.astype(np.int32)], 1.0)
        x0, y0 = grown.min(axis=0)
        x1, y1 = grown.max(axis=0)
        width, height = x1 - x0 + 1, y1 - y0 + 1
        local = polygon - [x0, y0]
        xs = np.broadcast_to(np.linspace(0, width - 1, num=width).reshape(1, width), (height, width))
        ys = np.broadcast_to(np.linspace(0, height - 1, num=height).reshape(height, 1), (height, width))
        maps = np.zeros((len(local), height, width), np.float32)
        for i in range(len(local)):
            maps[i] = np.clip(_edge_distance(xs, ys, local[i], local[(i + 1) % len(local)]) / distance, 0, 1)
        nearest = maps.min(axis=0)
        vx0, vx1 = min(max(0, x0), size - 1), min(max(0, x1), size - 1)
        vy0, vy1 = min(max(0, y0), size - 1), min(max(0, y1), size - 1)
        part = nearest[vy0 - y0 : vy1 - y1 + height, vx0 - x0 : vx1 - x1 + width]
        canvas[vy0 : vy1 + 1, vx0 : vx1 + 1] = np.fmax(1 - part, canvas[vy0 : vy1 + 1, vx0 : vx1 + 1])
    return canvas * (0.7 - 0.3) + 0.3, mask


def target_maps(polygons: list[np.ndarray], size: int) -> None:
    """All four maps."""
    shrink_maps(polygons, size)
    border_maps(polygons, size)


def _mini_box(points: np.ndarray) -> tuple[np.ndarray, float]:
    rectangle = cv2.minAreaRect(points)
    return cv2.boxPoints(rectangle), min(rectangle[1])


def _mean_score(prob_map: np.ndarray, box: np.ndarray) -> float:
    height, width = prob_map.shape
    x0, x1 = np.clip([np.floor(box[:, 0].min()), np.ceil(box[:, 0].max())], 0, width - 1).astype(int)
    y0, y1 = np.clip([np.floor(box[:, 1].min()), np.ceil(box[:, 1].max())], 0, height - 1).astype(int)
    mask = np.zeros((y1 - y0 + 1, x1 - x0 + 1), np.uint8)
    cv2.fillPoly(mask, (box - [x0, y0]).astype(np.int32)[None], 1)
    return float(cv2.mean(prob_map[y0 : y1 + 1, x0 : x1 + 1], mask)[0])


def boxes(prob_map: np.ndarray, threshold: float = 0.3, box_threshold: float = 0.6, ratio: float = 1.5) -> list[np.ndarray]:
    """Quads of a probability map."""
    bitmap = (prob_map > threshold).astype(np.uint8) * 255
    contours, _ = cv2.findContours(bitmap, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for contour in contours[:1000]:
        box, side = _mini_box(contour)
        if side < 3 or _mean_score(prob_map, box.reshape(-1, 2)) < box_threshold:
            continue
        shape = Polygon(box)
        grown = _offset(box, shape.area * ratio / shape.length)[0].reshape(-1, 1, 2)
        box, side = _mini_box(grown)
        if side >= 5:
            found.append(np.clip(np.round(box), 0, prob_map.shape[0]))
    return found


def evaluate(truth: list[np.ndarray], found: list[np.ndarray]) -> int:
    """Matched pairs at IoU 0.5: every pair by shapely."""
    truth = [t for t in truth if Polygon(t).is_valid and Polygon(t).is_simple]
    found = [d for d in found if Polygon(d).is_valid and Polygon(d).is_simple]
    ious = np.zeros((len(truth), len(found)))
    for i, a in enumerate(truth):
        for j, b in enumerate(found):
            union = Polygon(a).union(Polygon(b)).area
            ious[i, j] = Polygon(a).intersection(Polygon(b)).area / union
    matched, taken = 0, set()
    for i in range(len(truth)):
        for j in range(len(found)):
            if j not in taken and ious[i, j] > 0.5:
                matched += 1
                taken.add(j)
                break
    return matched
