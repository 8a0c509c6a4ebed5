"""The building blocks that several networks share."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional


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


class Upsample2x(nn.ConvTranspose2d):
    """A transposed convolution of 2x2 with stride 2, whose windows do not overlap: a product with a matrix, then rearranged.

    Parameters are those of ``ConvTranspose2d``. On a CPU, bf16 needs two thirds of the time of the transposed convolution.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 2, 2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, 2 H, 2 W)."""
        assert output_size is None, "the size is the double one"
        assert self.bias is not None
        batch, _, height, width = x.shape
        matrix = self.weight.permute(2, 3, 1, 0).flatten(0, 2)
        windows = functional.linear(x.permute(0, 2, 3, 1), matrix, self.bias.repeat(4))
        windows = windows.view(batch, height, width, 2, 2, self.out_channels).transpose(2, 3)
        return windows.reshape(batch, 2 * height, 2 * width, self.out_channels).permute(0, 3, 1, 2)


light_conv_bn_relu = partial(conv_bn_relu, eps=1e-3)
"""As ``conv_bn_relu``, for the light detector: batch norm adds more to variances, as in MobileNetV3 and EfficientNet.

A channel that is zero in all training crops has a running variance near zero, and with the usual 1e-5 it is amplified three hundred
times when it is not zero on a whole page: in the middle of a run, while the learning rate is high, hmean fell from 0.83 to 0.03.
"""
