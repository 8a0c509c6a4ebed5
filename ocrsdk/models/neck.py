"""From four feature maps to one at stride 4."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from ocrsdk.models.layers import Upsample2x, conv_bn_relu, light_conv_bn_relu

if TYPE_CHECKING:
    from collections.abc import Sequence


class FPN(nn.Module):
    """Feature pyramid (Lin et al. 2017) whose levels are reduced, brought to stride 4 and concatenated, as in DB.

    Args:
        in_channels: Channels of the four maps, finest first.
        lateral: Channels of the top-down path.
        channels: Channels of the result; each level gives a quarter.
        adaptive_fusion: Weigh the levels by DBNet++'s adaptive scale fusion.
    """

    def __init__(self, in_channels: Sequence[int], lateral: int, channels: int, adaptive_fusion: bool = False) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, lateral, 1, bias=False) for c in in_channels)
        self.smooth = nn.ModuleList(nn.Conv2d(lateral, channels // 4, 3, padding=1, bias=False) for _ in in_channels)
        self.fusion = AdaptiveScaleFusion(channels, len(in_channels)) if adaptive_fusion else None

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Four maps, finest first -> (B, channels, H / 4, W / 4)."""
        levels = [lateral(feature) for lateral, feature in zip(self.lateral, features, strict=True)]
        for i in range(len(levels) - 2, -1, -1):
            levels[i] = levels[i] + functional.interpolate(levels[i + 1], size=levels[i].shape[-2:])
        levels = [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]
        size = levels[0].shape[-2:]
        levels = levels[:1] + [functional.interpolate(level, size=size) for level in levels[1:]]
        return torch.cat(levels, 1) if self.fusion is None else self.fusion(levels)


class AdaptiveScaleFusion(nn.Module):
    """Spatial attention over the levels (Liao et al. 2022, "DBNet++", section 3.3)."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        reduced = channels // 4
        self.reduce = nn.Conv2d(channels, reduced, 3, padding=1)
        self.spatial = nn.Sequential(
            nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(1, 1, 1, bias=False), nn.Sigmoid()
        )
        self.level_weights = nn.Sequential(nn.Conv2d(reduced, levels, 1, bias=False), nn.Sigmoid())

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels of one size, (B, C / levels, H, W) each -> (B, C, H, W)."""
        reduced = self.reduce(torch.cat(list(levels), 1))
        attention = reduced + self.spatial(reduced.mean(1, keepdim=True))
        weights = self.level_weights(attention)
        return torch.cat([level * weights[:, i : i + 1] for i, level in enumerate(levels)], 1)


_PRIOR = 0.1
"""Share of the pixels that are inside shrunk text, roughly."""


def _start_small(layer: nn.Conv2d | nn.ConvTranspose2d, prob_channels: int) -> None:
    """Let logits begin near constants: a prior for the probability map, 0.5 for the threshold map.

    Lin et al. 2017, "Focal loss", section 4.1. Large random logits make large first steps, from which a short run may not recover.
    """
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    nn.init.constant_(layer.bias[:prob_channels], math.log(_PRIOR / (1 - _PRIOR)))


class DBHead(nn.Module):
    """DB's heads: two separate branches, each of two transposed convolutions.

    (B, C, H / 4, W / 4) -> (B, 1, H, W) logits of the probability and of the threshold map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.prob, self.thresh = self._branch(channels), self._branch(channels)

    @property
    def last(self) -> list[nn.Module]:
        """The layers whose results are logits."""
        return [self.prob[-1], self.thresh[-1]]

    def initialise(self) -> None:
        """See ``_start_small``; called after every layer has its usual weights."""
        _start_small(self.prob[-1], 1)  # type: ignore[arg-type]
        _start_small(self.thresh[-1], 0)  # type: ignore[arg-type]

    @staticmethod
    def _branch(channels: int) -> nn.Sequential:
        inner = channels // 4
        return nn.Sequential(
            conv_bn_relu(channels, inner, 3),
            Upsample2x(inner, inner),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            Upsample2x(inner, 1),
        )

    def forward(self, fused: Tensor, thresh: bool) -> tuple[Tensor, Tensor | None]:
        """The threshold map only if asked for."""
        return self.prob(fused), self.thresh(fused) if thresh else None


class ShuffleHead(nn.Module):
    """Both maps from one branch at stride 4, rearranged to full size (Shi et al. 2016, sub-pixel convolution).

    Nothing runs at stride 2, where transposed convolutions and normalisation cost a CPU more than a small backbone does.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = 32  # a CPU with AVX512 computes 16 channels at a time
        self.body = nn.Sequential(light_conv_bn_relu(channels, inner, 3), nn.Conv2d(inner, 2 * 16, 1), nn.PixelShuffle(4))

    @property
    def last(self) -> list[nn.Module]:
        """As ``DBHead``."""
        return [self.body[1]]

    def initialise(self) -> None:
        """As ``DBHead``."""
        _start_small(self.body[1], 16)  # type: ignore[arg-type]

    def forward(self, fused: Tensor, thresh: bool) -> tuple[Tensor, Tensor | None]:
        """As ``DBHead``."""
        maps = self.body(fused)
        return maps[:, :1], maps[:, 1:] if thresh else None
