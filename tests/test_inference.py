"""Inference alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ocrsdk.data.preparation import Preparation
from ocrsdk.inference import Detector
from ocrsdk.models.checkpoint import LoadedCheckpoint
from ocrsdk.models.dbnet import DBNet


def test_inference_needs_no_lightning():
    code = "import sys, ocrsdk.inference; assert 'torch' in sys.modules; assert 'pytorch_lightning' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


class Local(torch.nn.Module):
    """In place of the network: the mean over a few pixels, so that tiles and the whole page must agree everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.AvgPool2d(9, 1, 4, count_include_pad=False)

    def forward(self, image: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(prob_logits=self.mean(image.float().mean(dim=1, keepdim=True)) / 64 - 2)


@pytest.mark.parametrize("size", [(7000, 200), (200, 7000), (4100, 320), (2500, 64), (250, 6001)])
def test_f84_a_strip_is_read_at_full_size(size: tuple[int, int]):
    checkpoint = LoadedCheckpoint(Path("x"), DBNet(), {"short_side": 128, "max_side": 512}, {}, {}, 0, 0)
    detector = Detector(checkpoint)
    detector.model = Local()
    strip = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert detector.transform.preparation.is_strip(*size)
    tiled, matrix = detector.probability_map(strip)
    detector.transform = replace(detector.transform, max_side=10**6)
    whole, expected = detector.probability_map(strip)
    np.testing.assert_array_equal(matrix, expected)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-6)
    assert min(tiled.shape) == 128


def test_pages_of_usual_shapes_are_no_strips():
    preparation = Preparation()
    for height, width in ((1754, 1240), (463, 1000), (3000, 600), (600, 3000)):
        assert not preparation.is_strip(height, width)
    assert preparation.is_strip(14000, 400)
