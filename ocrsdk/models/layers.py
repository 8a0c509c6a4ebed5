"""The building blocks that several networks share."""

from __future__ import annotations

from functools import partial

from torch import nn


def conv_bn_relu(
    in_channels: int,
    out_channels: int,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    relu: bool = True,
    eps: float = 1e-5,
) -> nn.Sequential:
    """Convolution without bias, batch norm and, if asked, ReLU; the padding keeps the size at stride 1."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels, eps=eps),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


light_conv_bn_relu = partial(conv_bn_relu, eps=1e-3)
"""As ``conv_bn_relu``, for the light detector: batch norm adds more to variances, as in MobileNetV3 and EfficientNet.

A channel that is zero in all training crops has a running variance near zero, and with the usual 1e-5 it is amplified three hundred
times when it is not zero on a whole page: in the middle of a run, while the learning rate is high, hmean fell from 0.83 to 0.03.
"""
