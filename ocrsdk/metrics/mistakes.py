"""What went wrong on a page: texts that were missed, false alarms, texts merged into one detection, texts split into several."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ocrsdk import geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from ocrsdk.metrics.hmean import ImageScore

HALF = 0.5
"""A text is part of a merge when a larger share of it lies in the detection; a piece of a split, when more of it is in the text."""


class Mistakes(NamedTuple):
    """Indices of ground truth and of detections; each is in one place, and those that were matched are in none."""

    misses: tuple[int, ...]
    """Ground truth that nothing was found of."""
    false_alarms: tuple[int, ...]
    """Detections of nothing."""
    merges: tuple[tuple[int, tuple[int, ...]], ...]
    """(detection, the ground truths in it), at least two."""
    splits: tuple[tuple[int, tuple[int, ...]], ...]
    """(ground truth, its detections), at least two."""


def find_mistakes(truth: Sequence[ArrayLike], ignore: ArrayLike, detections: Sequence[ArrayLike], score: ImageScore) -> Mistakes:
    """Tell apart what ``HmeanMetric.update`` did not match; its arguments, and what it returned."""
    common, area_g, area_d, valid_g, valid_d = geometry.overlaps(*geometry.pack(truth), *geometry.pack(detections))
    left_g, left_d = valid_g & ~np.asarray(ignore, dtype=np.bool_).reshape(-1), valid_d.copy()
    for i, j in score.pairs:
        left_g[i] = left_d[j] = False
    left_d[list(score.det_ignored)] = False
    in_detection = common > HALF * np.where(valid_g, area_g, np.inf)[:, None]
    in_text = common > HALF * np.where(valid_d, area_d, np.inf)[None]
    merges, splits = [], []
    for j in np.flatnonzero(left_d).tolist():
        inside = np.flatnonzero(in_detection[:, j] & left_g)
        if len(inside) > 1:
            merges.append((j, tuple(inside.tolist())))
            left_d[j] = False
            left_g[inside] = False
    for i in np.flatnonzero(left_g).tolist():
        pieces = np.flatnonzero(in_text[i] & left_d)
        if len(pieces) > 1:
            splits.append((i, tuple(pieces.tolist())))
            left_g[i] = False
            left_d[pieces] = False
    misses, alarms = np.flatnonzero(left_g).tolist(), np.flatnonzero(left_d).tolist()
    return Mistakes(tuple(misses), tuple(alarms), tuple(merges), tuple(splits))
