"""Detection precision, recall and hmean at an IoU threshold, with don't-care regions.

The protocol of ICDAR 2015 (Karatzas et al. 2015, task 4.1): a detection that lies for more than half of its own area in
one don't-care region is set aside; ground truth and detections are matched one to one, greedily in file order, where
their IoU exceeds the threshold. Self-crossing and flat polygons cannot be judged: as in the reference implementation they
take part in no count, but they are counted apart so that nobody has to guess.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ocrsdk import geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Polygons = Sequence[ArrayLike] | NDArray[np.floating]


@dataclass(frozen=True)
class ImageScore:
    """The counts of one image."""

    matched: int
    gt_cared: int
    det_cared: int
    pairs: tuple[tuple[int, int], ...] = ()
    """(ground truth, detection) indices that were matched."""
    det_ignored: tuple[int, ...] = ()
    """Detections set aside because they lie in a don't-care region."""
    invalid_gt: int = 0
    invalid_det: int = 0

    @property
    def recall(self) -> float:
        """Matched share of the ground truth; 1 when there is none."""
        return self.matched / self.gt_cared if self.gt_cared else 1.0

    @property
    def precision(self) -> float:
        """Matched share of the detections; without any, 1 if there was nothing to find, else 0."""
        if self.gt_cared == 0:
            return 0.0 if self.det_cared else 1.0
        return self.matched / self.det_cared if self.det_cared else 0.0

    @property
    def hmean(self) -> float:
        """Harmonic mean of precision and recall."""
        return _harmonic(self.precision, self.recall)


@dataclass(frozen=True)
class Score:
    """Counts summed over images, and the ratios of the sums (0 where the denominator is 0)."""

    precision: float
    recall: float
    hmean: float
    matched: int
    gt_cared: int
    det_cared: int
    images: int
    invalid_gt: int = 0
    invalid_det: int = 0
    per_image: tuple[ImageScore, ...] = field(default=(), repr=False)

    def as_dict(self) -> dict[str, object]:
        """JSON-ready, without the per-image part."""
        record = asdict(self)
        del record["per_image"]
        return record


def _harmonic(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@njit(cache=True)
def _match(
    common: NDArray[np.float64],
    area_g: NDArray[np.float64],
    area_d: NDArray[np.float64],
    valid_g: NDArray[np.bool_],
    flags: NDArray[np.bool_],
    valid_d: NDArray[np.bool_],
    iou_threshold: float,
    area_threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.bool_], int, int, int, int]:
    """The detection of each ground truth (-1 for none), the detections set aside; how many count and how many are invalid.

    Takes arrays only and calls no compiled function of another file: numba's disk cache notices edits of one file alone.
    """
    n, m = common.shape
    partner = np.full(n, -1, dtype=np.int64)
    aside = np.zeros(m, dtype=np.bool_)
    for j in range(m):
        for i in range(n):
            if flags[i] and valid_g[i] and valid_d[j] and common[i, j] / area_d[j] > area_threshold:
                aside[j] = True
                break
    taken = aside.copy()
    for i in range(n):
        if flags[i] or not valid_g[i]:
            continue
        for j in range(m):
            if taken[j] or not valid_d[j]:
                continue
            if common[i, j] / (area_g[i] + area_d[j] - common[i, j]) > iou_threshold:
                partner[i], taken[j] = j, True
                break
    cared_g = cared_d = invalid_g = invalid_d = 0
    for i in range(n):
        cared_g += valid_g[i] and not flags[i]
        invalid_g += not valid_g[i]
    for j in range(m):
        cared_d += valid_d[j] and not aside[j]
        invalid_d += not valid_d[j]
    return partner, aside, cared_g, cared_d, invalid_g, invalid_d


def as_flags(truth: Polygons, ignore: ArrayLike) -> NDArray[np.bool_]:
    """The don't-care flags as an array.

    Raises:
        ValueError: There is not one for each polygon.
    """
    flags = np.asarray(ignore, dtype=np.bool_).reshape(-1)
    if len(flags) != len(truth):
        raise ValueError(f"{len(truth)} ground-truth polygons, but {len(flags)} ignore flags")
    return flags


class HmeanMetric:
    """Accumulates image scores: ``update`` per image, ``compute`` for the total, ``reset`` to start over.

    Args:
        iou_threshold: A pair counts when its IoU is strictly greater.
        area_threshold: A detection is set aside when more than this share of it lies in one don't-care region.
    """

    def __init__(self, iou_threshold: float = 0.5, area_threshold: float = 0.5) -> None:
        self.iou_threshold = iou_threshold
        self.area_threshold = area_threshold
        self._images: list[ImageScore] = []

    def reset(self) -> None:
        """Forget all images."""
        self._images.clear()

    def update(
        self,
        truth: Polygons,
        ignore: ArrayLike,
        detections: Polygons,
    ) -> ImageScore:
        """Score one image.

        Args:
            truth: Ground-truth polygons, (N, 2) each; an array of (n, N, 2) saves time.
            ignore: (n,) don't-care flags of ``truth``.
            detections: Detected polygons in the same pixels, in the same form.
        """
        flags = as_flags(truth, ignore)
        common, area_g, area_d, valid_g, valid_d = geometry.overlaps(*geometry.pack(truth), *geometry.pack(detections))
        partner, aside, cared_g, cared_d, invalid_g, invalid_d = _match(
            common, area_g, area_d, valid_g, flags, valid_d, self.iou_threshold, self.area_threshold
        )
        pairs = tuple([(i, j) for i, j in enumerate(partner.tolist()) if j >= 0])
        score = ImageScore(
            matched=len(pairs),
            gt_cared=cared_g,
            det_cared=cared_d,
            pairs=pairs,
            det_ignored=tuple(np.flatnonzero(aside).tolist()),
            invalid_gt=invalid_g,
            invalid_det=invalid_d,
        )
        return self._add(score)

    def _add(self, score: ImageScore) -> ImageScore:
        self._images.append(score)
        return score

    def compute(self) -> Score:
        """The score over all images since the last ``reset``."""
        matched = sum(i.matched for i in self._images)
        gt_cared = sum(i.gt_cared for i in self._images)
        det_cared = sum(i.det_cared for i in self._images)
        precision = matched / det_cared if det_cared else 0.0
        recall = matched / gt_cared if gt_cared else 0.0
        return Score(
            precision=precision,
            recall=recall,
            hmean=_harmonic(precision, recall),
            matched=matched,
            gt_cared=gt_cared,
            det_cared=det_cared,
            images=len(self._images),
            invalid_gt=sum(i.invalid_gt for i in self._images),
            invalid_det=sum(i.invalid_det for i in self._images),
            per_image=tuple(self._images),
        )
