"""TF32 only where it is asked for."""

from __future__ import annotations

import pytest
import torch

from ocrsdk.precision.device import tf32_allowed
from ocrsdk.precision.fp16_safe import FP16Safe
from ocrsdk.precision.fp32 import FP32


@pytest.mark.parametrize("tf32", [False, True])
def test_products_of_a_gpu_are_rounded_only_where_asked(tf32: bool):
    flags = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [flag.allow_tf32 for flag in flags]
    with tf32_allowed(tf32):
        assert [flag.allow_tf32 for flag in flags] == [tf32, tf32]
    assert [flag.allow_tf32 for flag in flags] == before
    assert FP32().tf32 is False
    assert FP32(FP32.check_options({"tf32": tf32}, "precision.options")).tf32 is tf32
    assert FP16Safe().tf32 is False
