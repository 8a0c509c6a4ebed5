"""CLEval, detection only (Baek et al. 2020, "CLEval: Character-Level Evaluation for Text Detection and Recognition Tasks").

Each text has as many points on its middle line as it has characters. A detection gets credit for the points that lie in it, if
enough of its own area is text; one that merges texts, or several that share one, pay a point for each piece too many. A false
detection costs as many characters as it is tall for its width. So split and merged words cost little, and long texts count more.

The parameters are those of the package ``cleval`` 0.1.1: area precision 0.3, a penalty of 1 a piece, and texts that are less than
half as wide as tall run downwards. Texts with other than four corners have their middle line between the two halves of the outline.
Polygons that cross themselves, and flat ones, take part in no count.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import pyclipper
from numba import njit

from ocrsdk import geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

AREA_PRECISION = 0.3
VERTICAL = 0.5
_MOST_CHARACTERS = 10
_FINE = 1024
"""Steps of a pixel, where areas are cut out by Clipper, which counts in integers."""


@dataclass(frozen=True)
class CLEvalScore:
    """Counts of characters, of one image or summed over many."""

    num_char_gt: int = 0
    num_char_det: int = 0
    num_char_tp: int = 0
    """Characters found, each once."""
    num_char_fp: int = 0
    num_char_overlapped: int = 0
    """Characters found more than once."""
    num_splitted: int = 0
    """Texts in several detections."""
    num_merged: int = 0
    """Detections of several texts."""
    penalty_recall: float = 0.0
    penalty_precision: float = 0.0

    @property
    def recall(self) -> float:
        """Characters found, less the penalty for splits, over all; 0 when there are none."""
        return max(0.0, self.num_char_tp - self.penalty_recall) / self.num_char_gt if self.num_char_gt else 0.0

    @property
    def precision(self) -> float:
        """Characters found, less the penalty for merges, over those that detections claim; 0 when there are none."""
        return max(0.0, self.num_char_tp - self.penalty_precision) / self.num_char_det if self.num_char_det else 0.0

    @property
    def hmean(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    def __add__(self, other: CLEvalScore) -> CLEvalScore:
        return CLEvalScore(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def as_dict(self) -> dict[str, float]:
        """JSON-ready, with the ratios."""
        return {name: getattr(self, name) for name in ("precision", "recall", "hmean", *(f.name for f in fields(self)))}


class CLEvalMetric:
    """Accumulates image scores: ``update`` per image, ``compute`` for the total, ``reset`` to start over."""

    def __init__(self) -> None:
        self.per_image: list[CLEvalScore] = []

    def reset(self) -> None:
        """Forget all images."""
        self.per_image.clear()

    def update(
        self, truth: Sequence[ArrayLike], texts: Sequence[str], ignore: ArrayLike, detections: Sequence[ArrayLike]
    ) -> CLEvalScore:
        """Score one image.

        Args:
            truth: Ground-truth polygons, (N, 2) each, from the text's own top-left corner on, clockwise.
            texts: Their transcriptions, of which the lengths count; where one is empty, its length is guessed from its shape.
            ignore: (n,) don't-care flags of ``truth``.
            detections: Detected polygons in the same pixels.
        """
        flags = np.asarray(ignore, dtype=np.bool_).reshape(-1)
        if not len(flags) == len(truth) == len(texts):
            raise ValueError(f"{len(truth)} ground-truth polygons, but {len(texts)} texts and {len(flags)} ignore flags")
        corners_g, ends_g = geometry.pack(truth)
        corners_d, ends_d = geometry.pack(detections)
        common, _, areas, valid_g, valid_d = geometry.overlaps(corners_g, ends_g, corners_d, ends_d)
        lengths = np.array([0 if hidden else len(text) for text, hidden in zip(texts, flags.tolist(), strict=True)], dtype=np.int64)
        points, owners = _centres(corners_g, ends_g, lengths, valid_g)
        hidden = flags & valid_g
        if hidden.any():
            _cut_out(common, corners_g, ends_g, detections, hidden, valid_g & ~flags, valid_d)
        precision = np.divide(common, areas, out=np.zeros_like(common), where=areas > 0).astype(np.float32)
        precision[~valid_g] = 0
        precision[:, ~valid_d] = 0
        inside = _inside(points, corners_d, ends_d, valid_d)
        counts = _count(precision, inside, owners, valid_g & ~flags, hidden, valid_d, AREA_PRECISION)
        tp, claimed, overlapped, split, merged, pieces_recall, pieces_precision, unmatched = counts
        aspects = [_aspect(corners_d[ends_d[j] : ends_d[j + 1]]) for j in unmatched]
        false = sum(min(round(0.5 + 1 / (1e-5 + aspect)), _MOST_CHARACTERS) for aspect in aspects)
        score = CLEvalScore(
            num_char_gt=int(np.count_nonzero(~flags[owners])), num_char_det=claimed + false, num_char_tp=tp, num_char_fp=false,
            num_char_overlapped=overlapped, num_splitted=split, num_merged=merged,
            penalty_recall=float(pieces_recall), penalty_precision=float(pieces_precision),
        )  # fmt: skip
        self.per_image.append(score)
        return score

    def compute(self) -> CLEvalScore:
        """The sums over all images since the last ``reset``: CLEval's own figure, not a mean of images."""
        return sum(self.per_image, CLEvalScore())


@njit(cache=True)
def _even(polygon: FloatArray) -> FloatArray:
    """The outline with an even number of corners: the longest edge of one with an odd number is halved."""
    n = len(polygon)
    if n % 2 == 0:
        return polygon
    at, longest = 0, -1.0
    for i in range(n):
        j = i + 1 if i + 1 < n else 0
        length = np.hypot(polygon[j, 0] - polygon[i, 0], polygon[j, 1] - polygon[i, 1])
        if length > longest:
            at, longest = i, length
    made = np.empty((n + 1, 2))
    made[: at + 1] = polygon[: at + 1]
    made[at + 1] = (polygon[at] + polygon[(at + 1) % n]) / 2
    made[at + 2 :] = polygon[at + 1 :]
    return made


@njit(cache=True)
def _aspect(polygon: FloatArray) -> float:
    """Length over height: the long sides are the two halves of the outline."""
    outline = _even(polygon)
    n, along = len(outline), 0.0
    half = n // 2
    for i in range(n):
        if i not in (half - 1, n - 1):
            along += np.hypot(outline[i + 1, 0] - outline[i, 0], outline[i + 1, 1] - outline[i, 1])
    start = np.hypot(outline[0, 0] - outline[n - 1, 0], outline[0, 1] - outline[n - 1, 1])
    end = np.hypot(outline[half, 0] - outline[half - 1, 0], outline[half, 1] - outline[half - 1, 1])
    return float((along / 2 + 1e-5) / ((start + end) / 2 + 1e-5))


@njit(cache=True)
def _centres(
    corners: FloatArray, ends: NDArray[np.int64], lengths: NDArray[np.int64], valid: NDArray[np.bool_]
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Points of all characters (p, 2), in the middles of equal parts of the middle lines, and whose each is (p,).

    A text of unknown length, 0, has as many characters as it is long for its height.
    """
    n = len(ends) - 1
    counts = np.zeros(n, dtype=np.int64)
    for k in range(n):
        if valid[k]:
            aspect = _aspect(corners[ends[k] : ends[k + 1]])
            counts[k] = lengths[k] if lengths[k] else min(round(0.5 + max(aspect, 1 / aspect)), 10)
    points, owners = np.empty((counts.sum(), 2)), np.empty(counts.sum(), dtype=np.int64)
    at = 0
    for k in range(n):
        if counts[k] == 0:
            continue
        outline = _even(corners[ends[k] : ends[k + 1]])
        size = len(outline)
        first = 3 if size == 4 and _aspect(outline) < VERTICAL else 0
        half = size // 2
        line, steps = np.empty((half, 2)), np.zeros(half)
        for i in range(half):
            line[i] = (outline[(first + i) % size] + outline[(first + size - 1 - i) % size]) / 2
            if i:
                steps[i] = steps[i - 1] + np.hypot(line[i, 0] - line[i - 1, 0], line[i, 1] - line[i - 1, 1])
        piece = 0
        for c in range(counts[k]):
            want = (c + 0.5) / counts[k] * steps[-1]
            while piece < half - 2 and steps[piece + 1] < want:
                piece += 1
            span = steps[piece + 1] - steps[piece]
            share = (want - steps[piece]) / span if span > 0 else 0.0
            points[at] = line[piece] + (line[piece + 1] - line[piece]) * share
            owners[at] = k
            at += 1
    return points, owners


def _cut_out(
    common: FloatArray, corners: FloatArray, ends: NDArray[np.int64], detections: Sequence[ArrayLike],
    hidden: NDArray[np.bool_], counted: NDArray[np.bool_], valid_d: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Where text lies in a don't-care region, it is no part of that region: correct its rows of ``common``."""

    def text_of(i: int) -> FloatArray:
        return corners[ends[i] : ends[i + 1]]

    low, high = np.minimum.reduceat(corners, ends[:-1]), np.maximum.reduceat(corners, ends[:-1])
    for i in np.flatnonzero(hidden).tolist():
        near = np.flatnonzero(counted & (low < high[i]).all(axis=1) & (high > low[i]).all(axis=1)).tolist()
        if not near:
            continue
        columns = np.flatnonzero((common[i] > 0) & valid_d).tolist()
        if not columns:
            continue
        rest = _clip([_path(text_of(i))], [_path(text_of(j)) for j in near], pyclipper.CT_DIFFERENCE)
        for column in columns:
            left = _clip(rest, [_path(detections[column])], pyclipper.CT_INTERSECTION) if rest else []
            common[i, column] = abs(sum(pyclipper.Area(path) for path in left)) / _FINE**2


def _path(polygon: ArrayLike) -> list[list[int]]:
    points: list[list[int]] = np.round(np.asarray(polygon, dtype=np.float64) * _FINE).astype(np.int64).tolist()
    return points


def _clip(subject: list[list[list[int]]], clip: list[list[list[int]]], operation: int) -> list[list[list[int]]]:
    if not clip:
        return subject if operation == pyclipper.CT_DIFFERENCE else []
    clipper = pyclipper.Pyclipper()
    try:
        clipper.AddPaths(subject, pyclipper.PT_SUBJECT, True)
        clipper.AddPaths(clip, pyclipper.PT_CLIP, True)
    except pyclipper.ClipperException:  # less than one step wide
        return []
    found: list[list[list[int]]] = clipper.Execute(operation, pyclipper.PFT_NONZERO, pyclipper.PFT_NONZERO)
    return found


@njit(cache=True)
def _inside(points: FloatArray, corners: FloatArray, offsets: NDArray[np.int64], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(m, p) whether each of p points lies in each of m polygons (crossing number); in an invalid one lies none."""
    found = np.zeros((len(offsets) - 1, len(points)), dtype=np.bool_)
    for j in range(len(offsets) - 1):
        polygon = corners[offsets[j] : offsets[j + 1]]
        n = len(polygon)
        if not valid[j]:
            continue
        low_x, high_x, low_y, high_y = polygon[:, 0].min(), polygon[:, 0].max(), polygon[:, 1].min(), polygon[:, 1].max()
        for k in range(len(points)):
            x, y = points[k, 0], points[k, 1]
            if not (low_x <= x <= high_x and low_y <= y <= high_y):
                continue
            within = False
            for a in range(n):
                b = a + 1 if a + 1 < n else 0
                x0, y0, x1, y1 = polygon[a, 0], polygon[a, 1], polygon[b, 0], polygon[b, 1]
                if (y0 > y) != (y1 > y) and x < (x1 - x0) * (y - y0) / (y1 - y0) + x0:
                    within = not within
            found[j, k] = within
    return found


@njit(cache=True)
def _count(
    precision: NDArray[np.float32], inside: NDArray[np.bool_], owners: NDArray[np.int64],
    counted: NDArray[np.bool_], hidden: NDArray[np.bool_], valid_d: NDArray[np.bool_], least: float,
) -> tuple[int, int, int, int, int, int, int, list[int]]:  # fmt: skip
    """Characters found and claimed, overlapped ones, splits, merges, pieces too many on either side, detections of nothing.

    Takes arrays only and calls no compiled function of another file: numba's disk cache notices edits of one file alone.
    """
    n, m = precision.shape
    points = np.zeros((n, m), dtype=np.int64)
    for j in range(m):
        for k in range(len(owners)):
            points[owners[k], j] += inside[j, k]
    enough = precision >= np.float32(least)
    judged = valid_d.copy()
    for j in range(m):
        if not valid_d[j]:
            continue
        together = np.float32(0.0)
        for i in range(n):
            if hidden[i]:
                if enough[i, j]:
                    judged[j] = False
                    break
                if points[i, j] > 0:
                    together += precision[i, j]
        if hidden.any() and together >= least:
            judged[j] = False
    linked = np.zeros((n, m), dtype=np.bool_)
    by_text, by_detection = np.zeros(n, dtype=np.int64), np.zeros(m, dtype=np.int64)
    for i in range(n):
        for j in range(m):
            if enough[i, j] and points[i, j] > 0:
                by_text[i] += 1
                by_detection[j] += 1
    for i in range(n):
        if not counted[i]:
            continue
        several = 0
        for j in range(m):
            if judged[j] and enough[i, j] and points[i, j] > 0:
                several += 1
                if by_text[i] == 1 and by_detection[j] == 1:
                    linked[i, j] = True
        if several >= 2:
            for j in range(m):
                if judged[j] and enough[i, j] and points[i, j] > 0:
                    linked[i, j] = True
    for j in range(m):
        if not judged[j]:
            continue
        together, several = np.float32(0.0), 0
        for i in range(n):
            if counted[i] and points[i, j] > 0:
                together += precision[i, j]
                several += 1
        if several >= 2 and together >= least:
            for i in range(n):
                if counted[i] and points[i, j] > 0:
                    linked[i, j] = True
    found = np.zeros(len(owners), dtype=np.bool_)
    tp = claimed = overlapped = split = merged = pieces_recall = pieces_precision = 0
    unmatched = [0 for _ in range(0)]
    for j in range(m):
        if not judged[j]:
            continue
        texts = 0
        for i in range(n):
            texts += linked[i, j]
        if texts == 0:
            unmatched.append(j)
            continue
        merged += texts > 1
        pieces_precision += texts - 1
        for k in range(len(owners)):
            if linked[owners[k], j] and inside[j, k]:
                claimed += 1
                if found[k]:
                    overlapped += 1
                else:
                    found[k] = True
                    tp += 1
    for i in range(n):
        if counted[i]:
            pieces = 0
            for j in range(m):
                pieces += linked[i, j]
            split += pieces > 1
            pieces_recall += max(pieces - 1, 0)
    return tp, claimed, overlapped, split, merged, pieces_recall, pieces_precision, unmatched
