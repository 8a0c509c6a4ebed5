"""Samples to a batch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ocrsdk.types import Batch, Sample, TargetMaps

if TYPE_CHECKING:
    from collections.abc import Sequence

_NO_PIXELS = np.empty((0, 0, 3), dtype=np.uint8)


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size.

    Images stay (B, H, W, 3) in memory and are seen as (B, 3, H, W), which is torch's channels-last layout. Maps become
    (B, 1, H, W). The samples travel along without their pixels.
    """
    image = torch.from_numpy(np.stack([s.image for s in samples])).permute(0, 3, 1, 2)
    drawn = [s.targets for s in samples if s.targets is not None]
    targets = None
    if len(drawn) == len(samples):
        names = ("prob_map", "prob_mask", "thresh_map", "thresh_mask")
        stacked = (np.stack([getattr(maps, name) for maps in drawn])[:, None] for name in names)
        targets = TargetMaps(*(torch.from_numpy(maps) for maps in stacked))
    return Batch(image, [replace(s, image=_NO_PIXELS, targets=None) for s in samples], targets)
