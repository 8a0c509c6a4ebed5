"""The small backbone is small."""

from __future__ import annotations

from ocrsdk.models.dbnet import DBNet


def test_the_small_model_is_small():
    assert 0.4e6 < sum(p.numel() for p in DBNet().parameters()) < 0.8e6
