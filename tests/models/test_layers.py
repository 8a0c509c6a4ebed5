"""Building blocks against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ocrsdk.models.layers import Upsample2x


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_upsampling_is_a_transposed_convolution(memory_format: torch.memory_format):
    torch.manual_seed(0)
    layer = Upsample2x(6, 5).double()
    image = torch.randn(2, 6, 7, 9, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    direction = torch.randn(2, 5, 14, 18, dtype=torch.float64)
    wanted = functional.conv_transpose2d(image, layer.weight, layer.bias, stride=2)
    found = layer(image)
    torch.testing.assert_close(found, wanted)
    of = (image, layer.weight, layer.bias)
    gradients = (torch.autograd.grad(result, of, direction) for result in (found, wanted))
    torch.testing.assert_close(*gradients)
