"""The loss of DB detectors, computed from logits and always in at least float32.

Liao et al. 2020: ``total = 5 * balanced BCE(probability) + 10 * masked L1(threshold) + 1 * dice(binary)``, where the binary
map is ``sigmoid(k * (p - t))``. The paper writes it as ``1 / (1 + exp(-k (p - t)))``, whose gradient is NaN in half precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ocrsdk.settings.sections import LossSettings

if TYPE_CHECKING:
    from ocrsdk.types import TargetMaps


class DBLossParts(NamedTuple):
    """Scalars; ``total`` is the weighted sum and carries the gradient."""

    total: Tensor
    bce: Tensor
    l1: Tensor
    dice: Tensor


_EPS = 1e-6
"""Added to denominators, as in the original code."""


class DBLoss(nn.Module):
    """Balanced BCE + masked L1 + dice; hard negatives are chosen over the whole batch.

    Args:
        settings: Weights and constants; the paper's if None.
    """

    def __init__(self, settings: LossSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or LossSettings()

    def forward(self, prob_logits: Tensor, thresh_logits: Tensor, targets: TargetMaps[Tensor]) -> DBLossParts:
        """Losses of a batch.

        Args:
            prob_logits: (B, 1, H, W) logits of the probability map, any float dtype. If one is not finite, the total is not,
                wherever it lies.
            thresh_logits: (B, 1, H, W) logits of the threshold map.
            targets: The maps, (B, 1, H, W) each.
        """
        given = self.settings
        with torch.autocast(prob_logits.device.type, enabled=False):
            dtype = torch.promote_types(prob_logits.dtype, torch.float32)
            prob_logits, thresh_logits = prob_logits.to(dtype), thresh_logits.to(dtype)
            truth, mask = targets.prob_map.to(dtype), targets.prob_mask.to(dtype)
            positive = truth * mask
            prob, thresh = prob_logits.sigmoid(), thresh_logits.sigmoid()
            bce = self._balanced_bce(prob_logits, truth, positive, mask - positive)
            l1 = self._masked_l1(thresh, targets.thresh_map.to(dtype), targets.thresh_mask.to(dtype))
            dice = self._dice((given.k * (prob - thresh)).sigmoid(), positive, mask)
            total = given.bce_weight * bce + given.l1_weight * l1 + given.dice_weight * dice
        return DBLossParts(total, bce.detach(), l1.detach(), dice.detach())

    def _balanced_bce(self, logits: Tensor, truth: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        n_positive, n_negative = int(positive.sum(dtype=torch.int64)), int(negative.sum(dtype=torch.int64))
        kept = min(n_negative, int(n_positive * self.settings.negative_ratio))
        # the loss of a negative rises with its logit, so the hardest are those with the largest logits
        weight = positive + (_largest(logits.detach(), negative, kept) if kept < n_negative else negative)
        total = functional.binary_cross_entropy_with_logits(logits, truth, weight, reduction="sum")
        return total / (n_positive + kept + _EPS)

    @staticmethod
    def _masked_l1(thresh: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return ((thresh - target).abs() * mask).sum() / mask.sum().clamp(min=1)

    @staticmethod
    def _dice(binary: Tensor, positive: Tensor, mask: Tensor) -> Tensor:
        overlap = (binary * positive).sum()
        return 1 - 2 * overlap / ((binary * mask).sum() + positive.sum() + _EPS)


def _largest(values: Tensor, among: Tensor, k: int) -> Tensor:
    """Weights that are one for the ``k`` largest values where ``among`` is one, else zero; equal ones share the last places.

    Args:
        values: Any shape.
        among: The same shape, zeros and ones, with at least ``k`` ones.
        k: From 0.
    """
    if k == 0:
        return torch.zeros_like(values)
    values = values.masked_fill(among == 0, -torch.inf)
    least, above, equal = _kth_largest(values.flatten(), k)
    weights = (values >= least).to(values.dtype)
    if above + equal > k:
        weights[values == least] = (k - above) / equal
    return weights


_SAMPLE = 8192


def _kth_largest(values: Tensor, k: int) -> tuple[Tensor, int, int]:
    """The ``k``-th largest of (N,), how many are larger and how many equal; in a quarter to a half of the time of ``topk``.

    After Floyd and Rivest 1975, "Expected time bounds for selection": two values of a sample bracket it, and what lies between them
    is searched. If it is not between them, everything is.
    """
    sample = values[:: len(values) // _SAMPLE | 1].sort(descending=True).values
    middle, margin = len(sample) * k // len(values), 2 * int(len(sample) ** 0.5)
    high = sample[max(0, middle - margin)]
    low = sample[min(len(sample) - 1, middle + margin)]
    between = values[(values <= high) & (values >= low)]
    rank = k - int((values > high).sum())
    if not 1 <= rank <= len(between):
        between, rank = values, k
    found = between.topk(rank, sorted=False).values.min()
    return found, k - rank + int((between > found).sum()), int((between == found).sum())
