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
        common, _, areas, valid_g, valid_d = geometry.overlaps(*geometry.pack(truth), *geometry.pack(detections))
        lines = [_midline(np.asarray(polygon, dtype=np.float64)) for polygon in truth]
        known = [text if not hidden else "" for text, hidden in zip(texts, flags, strict=True)]
        lengths = np.array([len(text) or _guess(aspect) for text, (_, aspect) in zip(known, lines, strict=True)], dtype=np.int64)
        lengths[~valid_g] = 0
        centres = [_spread(line, int(count)) for (line, _), count in zip(lines, lengths, strict=True)]
        hidden = flags & valid_g
        if hidden.any():
            _cut_out(common, truth, detections, hidden, valid_g & ~flags, valid_d)
        precision = np.divide(common, areas, out=np.zeros_like(common), where=areas > 0).astype(np.float32)
        precision[~valid_g] = 0
        precision[:, ~valid_d] = 0
        points = np.concatenate(centres) if centres else np.empty((0, 2))
        owners = np.repeat(np.arange(len(truth)), lengths)
        inside = _inside(points, *geometry.pack(detections)) & valid_d[:, None]
        counts = _count(precision, inside, owners, valid_g & ~flags, hidden, valid_d, AREA_PRECISION)
        tp, claimed, overlapped, split, merged, pieces_recall, pieces_precision, unmatched = counts
        aspects = [_aspect(np.asarray(detections[j], dtype=np.float64)) for j in unmatched]
        false = sum(min(round(0.5 + 1 / (1e-5 + aspect)), _MOST_CHARACTERS) for aspect in aspects)
        score = CLEvalScore(
            num_char_gt=int(lengths[valid_g & ~flags].sum()), num_char_det=claimed + false, num_char_tp=tp, num_char_fp=false,
            num_char_overlapped=overlapped, num_splitted=split, num_merged=merged,
            penalty_recall=float(pieces_recall), penalty_precision=float(pieces_precision),
        )  # fmt: skip
        self.per_image.append(score)
        return score

    def compute(self) -> CLEvalScore:
        """The sums over all images since the last ``reset``: CLEval's own figure, not a mean of images."""
        return sum(self.per_image, CLEvalScore())


def _sides(polygon: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The two long sides of a text, both in its direction: (k, 2) each."""
    if len(polygon) % 2:  # one corner more than the other side: the longest edge is halved
        steps = np.linalg.norm(np.roll(polygon, -1, axis=0) - polygon, axis=1)
        at = int(steps.argmax())
        middle = (polygon[at] + polygon[(at + 1) % len(polygon)]) / 2
        polygon = np.insert(polygon, at + 1, middle, axis=0)
    half = len(polygon) // 2
    return polygon[:half], polygon[half:][::-1]


def _aspect(polygon: FloatArray) -> float:
    """Length over height."""
    top, bottom = _sides(polygon)
    along = (_length(top) + _length(bottom)) / 2
    across = (np.linalg.norm(top[0] - bottom[0]) + np.linalg.norm(top[-1] - bottom[-1])) / 2
    return float((along + 1e-5) / (across + 1e-5))


def _length(line: FloatArray) -> float:
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())


def _midline(polygon: FloatArray) -> tuple[FloatArray, float]:
    """The middle line in reading direction, (k, 2), and the aspect."""
    aspect = _aspect(polygon)
    if len(polygon) == 4 and aspect < VERTICAL:
        polygon = polygon[[3, 0, 1, 2]]
    top, bottom = _sides(polygon)
    return (top + bottom) / 2, aspect


def _guess(aspect: float) -> int:
    return min(round(0.5 + max(aspect, 1 / aspect)), _MOST_CHARACTERS)


def _spread(line: FloatArray, count: int) -> FloatArray:
    """(count, 2) points on a line, in the middles of equal parts."""
    steps = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    at = (np.arange(count) + 0.5) / max(count, 1) * steps[-1]
    return np.stack([np.interp(at, steps, line[:, axis]) for axis in (0, 1)], axis=1)


def _cut_out(
    common: FloatArray, truth: Sequence[ArrayLike], detections: Sequence[ArrayLike],
    hidden: NDArray[np.bool_], counted: NDArray[np.bool_], valid_d: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Where text lies in a don't-care region, it is no part of that region: correct its rows of ``common``."""
    paths = {i: _path(truth[i]) for i in np.flatnonzero(hidden | counted).tolist()}
    for i in np.flatnonzero(hidden).tolist():
        columns = np.flatnonzero((common[i] > 0) & valid_d).tolist()
        if not columns:
            continue
        rest = _clip([paths[i]], [paths[j] for j in np.flatnonzero(counted).tolist()], pyclipper.CT_DIFFERENCE)
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
def _inside(points: FloatArray, corners: FloatArray, offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(m, p) whether each of p points lies in each of m polygons (crossing number)."""
    found = np.zeros((len(offsets) - 1, len(points)), dtype=np.bool_)
    for j in range(len(offsets) - 1):
        polygon = corners[offsets[j] : offsets[j + 1]]
        n = len(polygon)
        for k in range(len(points)):
            x, y = points[k, 0], points[k, 1]
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
