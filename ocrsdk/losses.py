"""The loss of DB detectors, computed from logits and always in at least float32.

Liao et al. 2020: ``total = 5 * balanced BCE(probability) + 10 * masked L1(threshold) + 1 * dice(binary)``, where the binary
map is ``sigmoid(k * (p - t))``. The paper writes it as ``1 / (1 + exp(-k (p - t)))``, whose gradient is NaN in half precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from ocrsdk.types import TargetMaps


class DBLossParts(NamedTuple):
    """Scalars; ``total`` is the weighted sum and carries the gradient."""

    total: Tensor
    bce: Tensor
    l1: Tensor
    dice: Tensor


class DBLoss(nn.Module):
    """Balanced BCE + masked L1 + dice.

    Args:
        bce_weight: Weight of the probability map's loss.
        l1_weight: Weight of the threshold map's loss.
        dice_weight: Weight of the binary map's loss.
        k: Steepness of the differentiable step.
        negative_ratio: Hard negatives kept for each positive pixel, over the whole batch.
        eps: Added to denominators.
    """

    def __init__(
        self,
        bce_weight: float = 5.0,
        l1_weight: float = 10.0,
        dice_weight: float = 1.0,
        k: float = 50.0,
        negative_ratio: float = 3.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.bce_weight, self.l1_weight, self.dice_weight = bce_weight, l1_weight, dice_weight
        self.k, self.negative_ratio, self.eps = k, negative_ratio, eps

    def forward(self, prob_logits: Tensor, thresh_logits: Tensor, targets: TargetMaps) -> DBLossParts:
        """Losses of a batch.

        Args:
            prob_logits: (B, 1, H, W) logits of the probability map, any float dtype.
            thresh_logits: (B, 1, H, W) logits of the threshold map.
            targets: The maps, (B, 1, H, W) each.
        """
        with torch.autocast(prob_logits.device.type, enabled=False):
            dtype = torch.promote_types(prob_logits.dtype, torch.float32)
            prob_logits, thresh_logits = prob_logits.to(dtype), thresh_logits.to(dtype)
            truth, mask = targets.prob_map.to(dtype), targets.prob_mask.to(dtype)
            prob, thresh = prob_logits.sigmoid(), thresh_logits.sigmoid()
            bce = self._balanced_bce(prob_logits, truth, mask)
            l1 = self._masked_l1(thresh, targets.thresh_map.to(dtype), targets.thresh_mask.to(dtype))
            dice = self._dice((self.k * (prob - thresh)).sigmoid(), truth, mask)
            total = self.bce_weight * bce + self.l1_weight * l1 + self.dice_weight * dice
        return DBLossParts(total, bce.detach(), l1.detach(), dice.detach())

    def _balanced_bce(self, logits: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
        positive = truth * mask
        negative = (1 - truth) * mask
        n_positive, n_negative = int(positive.sum(dtype=torch.float64)), int(negative.sum(dtype=torch.float64))
        kept = min(n_negative, int(n_positive * self.negative_ratio))
        # softplus rises with the logit, so the hardest negatives are those with the largest logits
        hardest = logits.masked_fill(negative == 0, -torch.inf).flatten().topk(kept, sorted=False).values
        total = (functional.softplus(-logits) * positive).sum() + functional.softplus(hardest).sum()
        return total / (n_positive + kept + self.eps)

    @staticmethod
    def _masked_l1(thresh: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return ((thresh - target).abs() * mask).sum() / mask.sum().clamp(min=1)

    def _dice(self, binary: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
        overlap = (binary * truth * mask).sum()
        return 1 - 2 * overlap / ((binary * mask).sum() + (truth * mask).sum() + self.eps)
