"""Polygon IoU as Total-Text's own program counts it (Ch'ng and Chan 2017, "Total-Text"; its Pascal VOC protocol).

A text is found if one detection, and no second one, has an IoU of at least 0.5 with it. A detection that lies for more than half of
its own area in one don't-care region is set aside. It differs from ``icdar-iou`` where a text is detected twice: here it is missed,
and each of the detections is a false alarm; there the first counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ocrsdk import geometry
from ocrsdk.metrics.hmean import HmeanMetric, ImageScore, as_flags

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ocrsdk.metrics.hmean import Polygons


class TotalTextMetric(HmeanMetric):
    """As ``HmeanMetric``, with the rules of Total-Text.

    Args:
        iou_threshold: A pair counts when its IoU is this or more.
        area_threshold: A detection is set aside when more than this share of it lies in one don't-care region.
    """

    def __init__(self, iou_threshold: float = 0.5, area_threshold: float = 0.5) -> None:
        super().__init__(iou_threshold, area_threshold)

    def update(self, truth: Polygons, ignore: ArrayLike, detections: Polygons) -> ImageScore:
        """Score one image; the arguments are those of ``HmeanMetric.update``."""
        flags = as_flags(truth, ignore)
        common, area_g, area_d, valid_g, valid_d = geometry.overlaps(*geometry.pack(truth), *geometry.pack(detections))
        inside = common[flags & valid_g] / np.where(valid_d, area_d, np.inf)[None]
        aside = valid_d & (inside > self.area_threshold).any(axis=0)
        texts, found = valid_g & ~flags, valid_d & ~aside
        union = np.where(texts[:, None] & found[None], area_g[:, None] + area_d[None] - common, np.inf)
        near = common >= self.iou_threshold * union
        partner = {i: int(near[i].argmax()) for i in np.flatnonzero(near.sum(axis=1) == 1).tolist()}
        score = ImageScore(
            matched=len(partner), gt_cared=int(texts.sum()), det_cared=int(found.sum()), pairs=tuple(partner.items()),
            det_ignored=tuple(np.flatnonzero(aside).tolist()), invalid_gt=int((~valid_g).sum()), invalid_det=int((~valid_d).sum()),
        )  # fmt: skip
        return self._add(score)
