"""DetEval (Wolf and Jolion 2006, "Object count/area graphs for the evaluation of object detection and segmentation algorithms").

The protocol of ICDAR 2013, task 2.1, on outlines of any shape. A text may be found by one detection, by several, each of which is
mostly text (a split, which counts 0.8), or together with others by one that holds each of them nearly whole (a merge, which counts
fully). The limits are those of the competition: 0.8 of a text's area has to be covered, and 0.4 of a detection's has to be text.

Areas are those of the outlines: the competition's program, which knows boxes of whole pixels alone, makes each a pixel wider and
taller. Polygons that cross themselves, and flat ones, take part in no count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ocrsdk import geometry
from ocrsdk.metrics.hmean import as_flags

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ocrsdk.metrics.hmean import Polygons

AREA_RECALL, AREA_PRECISION = 0.8, 0.4
SPLIT_WEIGHT = 0.8
"""What a text in several pieces counts, and each of the pieces."""
CENTRE_DISTANCE = 1.0
"""Two that match alone lie closer than this many times their mean diagonal."""

_TOUCHING = 1e-9
"""Less of a text than this is rounding: two outlines that share an edge."""


@dataclass(frozen=True)
class DetEvalScore:
    """Sums of one image or of many."""

    recall_sum: float = 0.0
    """What the texts count that were found."""
    precision_sum: float = 0.0
    """What the detections count that found something."""
    gt_cared: int = 0
    det_cared: int = 0
    splits: int = 0
    """Texts found in several pieces."""
    merges: int = 0
    """Detections that found several texts."""

    @property
    def recall(self) -> float:
        """Share of the texts; 1 when there are none."""
        return self.recall_sum / self.gt_cared if self.gt_cared else 1.0

    @property
    def precision(self) -> float:
        """Share of the detections; without any, 1 if there was nothing to find, else 0."""
        return self.precision_sum / self.det_cared if self.det_cared else float(not self.gt_cared)

    @property
    def hmean(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    def as_dict(self) -> dict[str, float]:
        """JSON-ready, with the ratios."""
        names = ("precision", "recall", "hmean", "recall_sum", "precision_sum", "gt_cared", "det_cared", "splits", "merges")
        return {name: getattr(self, name) for name in names}


class DetEvalMetric:
    """Accumulates image scores: ``update`` per image, ``compute`` for the total, ``reset`` to start over.

    Args:
        area_recall: This share of a text has to be covered.
        area_precision: This share of a detection has to be text; one with more than it in a don't-care region is set aside.
    """

    def __init__(self, area_recall: float = AREA_RECALL, area_precision: float = AREA_PRECISION) -> None:
        self.area_recall, self.area_precision = area_recall, area_precision
        self.per_image: list[DetEvalScore] = []

    def reset(self) -> None:
        """Forget all images."""
        self.per_image.clear()

    def update(self, truth: Polygons, ignore: ArrayLike, detections: Polygons) -> DetEvalScore:
        """Score one image.

        Args:
            truth: Ground-truth polygons, (N, 2) each.
            ignore: (n,) don't-care flags of ``truth``.
            detections: Detected polygons in the same pixels.
        """
        flags = as_flags(truth, ignore)
        common, area_g, area_d, valid_g, valid_d = geometry.overlaps(*geometry.pack(truth), *geometry.pack(detections))
        self.per_image.append(
            self._score(
                common / np.where(valid_g, area_g, np.inf)[:, None],
                common / np.where(valid_d, area_d, np.inf)[None],
                valid_g & ~flags, valid_g & flags, valid_d, _near(truth, detections),
            )
        )  # fmt: skip
        return self.per_image[-1]

    def _score(
        self,
        recall: NDArray[np.float64],
        precision: NDArray[np.float64],
        texts: NDArray[np.bool_],
        ignored: NDArray[np.bool_],
        valid: NDArray[np.bool_],
        near: NDArray[np.bool_],
    ) -> DetEvalScore:
        """Match by what the two matrices of shares say: one to one, then splits, then merges, each in file order."""
        found = valid & ~(precision[ignored] > self.area_precision).any(axis=0)
        free_g, free_d = texts.copy(), found.copy()
        good = (recall >= self.area_recall) & (precision >= self.area_precision)
        touching = recall > _TOUCHING
        around_g, around_d = touching[:, found].sum(axis=1), touching[texts].sum(axis=0)
        alone = good & (good.sum(axis=1) == 1)[:, None] & (good.sum(axis=0) == 1)[None]
        alone &= (around_g == 1)[:, None] & (around_d == 1)[None] & near
        for i, j in np.argwhere(alone & free_g[:, None] & free_d[None]).tolist():
            free_g[i] = free_d[j] = False
        recalled = claimed = float((texts & ~free_g).sum())
        splits = merges = 0
        for i in np.flatnonzero(free_g & (around_g >= 2)).tolist():
            pieces = np.flatnonzero((precision[i] >= self.area_precision) & free_d)
            if round(float(recall[i, pieces].sum()), 4) >= self.area_recall:
                free_g[i], free_d[pieces] = False, False
                weight = 1.0 if len(pieces) == 1 else SPLIT_WEIGHT
                recalled, claimed, splits = recalled + weight, claimed + weight * len(pieces), splits + (len(pieces) > 1)
        for j in np.flatnonzero(free_d & (around_d >= 2)).tolist():
            held = np.flatnonzero((recall[:, j] >= self.area_recall) & free_g)
            if round(float(precision[held, j].sum()), 4) >= self.area_precision:
                free_d[j], free_g[held] = False, False
                recalled, claimed, merges = recalled + len(held), claimed + 1, merges + (len(held) > 1)
        return DetEvalScore(recalled, claimed, int(texts.sum()), int(found.sum()), splits, merges)

    def compute(self) -> DetEvalScore:
        """The score over all images since the last ``reset``."""
        names = ("recall_sum", "precision_sum", "gt_cared", "det_cared", "splits", "merges")
        return DetEvalScore(*(sum(getattr(image, name) for image in self.per_image) for name in names))


def _near(truth: Polygons, detections: Polygons) -> NDArray[np.bool_]:
    """Whether the mean corners lie closer than ``CENTRE_DISTANCE`` times the mean diagonal of the bounding boxes."""
    places = []
    for polygons in (truth, detections):
        corners = [np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in polygons]
        centres = np.array([points.mean(axis=0) for points in corners]).reshape(-1, 2)
        diagonals = np.array([np.hypot(*(points.max(axis=0) - points.min(axis=0))) for points in corners])
        places.append((centres, diagonals))
    (centres_g, diagonals_g), (centres_d, diagonals_d) = places
    distance = np.linalg.norm(centres_g[:, None] - centres_d[None], axis=2)
    return np.asarray(2 * distance < CENTRE_DISTANCE * (diagonals_g[:, None] + diagonals_d[None]))
