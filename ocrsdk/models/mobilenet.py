"""A small backbone for CPUs.

MobileNetV4's recipe (Qin et al. 2024): full 3x3 convolutions in the early, wide stages (a CPU runs them near its matrix rate),
depthwise inverted residuals (Sandler et al. 2018) in the late, small ones. Depthwise filters are 3x3: the gradient of 5x5 ones
costs a CPU eight times as much.
"""

from __future__ import annotations

from torch import Tensor, nn

from ocrsdk.models.layers import light_conv_bn_relu


class FusedResidual(nn.Module):
    """3x3 expansion, 1x1 projection (Tan and Le 2021, Fused-MBConv); a residual where the shape allows."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int = 1) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.body = nn.Sequential(
            light_conv_bn_relu(in_channels, hidden, 3, stride), light_conv_bn_relu(hidden, out_channels, 1, relu=False)
        )
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        y: Tensor = self.body(x)
        return x + y if self.residual else y


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise convolution, 1x1 projection; a residual where the shape allows."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int = 1) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.body = nn.Sequential(
            light_conv_bn_relu(in_channels, hidden, 1),
            light_conv_bn_relu(hidden, hidden, 3, stride, groups=hidden),
            light_conv_bn_relu(hidden, out_channels, 1, relu=False),
        )
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        y: Tensor = self.body(x)
        return x + y if self.residual else y


class MobileNet(nn.Module):
    """Feature maps at strides 4, 8, 16 and 32 with ``channels`` channels."""

    channels = (24, 48, 80, 160)

    def __init__(self) -> None:
        super().__init__()
        c1, c2, c3, c4 = self.channels
        self.stem = light_conv_bn_relu(3, 16, 3, 2)
        self.stage1 = nn.Sequential(FusedResidual(16, c1, 2, 2), FusedResidual(c1, c1, 2))
        self.stage2 = nn.Sequential(FusedResidual(c1, c2, 2, 2), FusedResidual(c2, c2, 2))
        self.stage3 = nn.Sequential(InvertedResidual(c2, c3, 4, 2), *(InvertedResidual(c3, c3, 3) for _ in range(3)))
        self.stage4 = nn.Sequential(InvertedResidual(c3, c4, 4, 2), *(InvertedResidual(c4, c4, 3) for _ in range(2)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised image -> four maps, (B, channels[i], H / 2^(i+2), W / 2^(i+2))."""
        features, x = [], self.stem(x)
        for stage in (self.stage1, self.stage2, self.stage3, self.stage4):
            x = stage(x)
            features.append(x)
        return features
