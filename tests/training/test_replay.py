"""A replay is whole, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ocrsdk.errors import CheckpointError
from ocrsdk.precision.fp32 import FP32
from ocrsdk.testing.precision import batches, small_module
from ocrsdk.training.replay import read_replay, write_replay


@pytest.mark.parametrize("part", ["batches", "message", "scale", "targets"])
def test_a_replay_with_a_part_missing_is_refused(tmp_path: Path, part: str):
    write_replay(tmp_path, small_module(FP32()), batches(1), "it was", 1.0)
    path = tmp_path / "nonfinite-step-0.ckpt"
    content = torch.load(path, weights_only=True)
    (content["replay"]["batches"][0] if part == "targets" else content["replay"]).pop(part)
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=f"a replay with parts missing or changed .*{part}"):
        read_replay(path)
