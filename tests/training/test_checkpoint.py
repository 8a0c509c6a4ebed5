"""A crash never damages the previous checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ocrsdk.errors import CheckpointError
from ocrsdk.training.checkpoint import AtomicCheckpointIO


def test_a_failed_write_leaves_the_previous_file(tmp_path: Path):
    """A file system that is full: a write to /dev/full fails like a full disk."""
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"n": 1}, path)
    (tmp_path / f".last.ckpt.{os.getpid()}.partial").symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match=r"last\.ckpt: the checkpoint cannot be written"):
        AtomicCheckpointIO().save_checkpoint({"n": torch.zeros(100_000)}, path)
    assert torch.load(path, weights_only=True) == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.slow
def test_a_kill_while_writing_leaves_a_whole_file(tmp_path: Path):
    code = (
        "import sys, torch; from pathlib import Path\n"
        "from ocrsdk.training.checkpoint import AtomicCheckpointIO\n"
        "path, n = Path(sys.argv[1]), 0\n"
        "while True:\n"
        "    n += 1; AtomicCheckpointIO().save_checkpoint({'n': n, 'x': torch.zeros(2_000_000)}, path); print(n, flush=True)\n"
    )
    path = tmp_path / "last.ckpt"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    written = [int(process.stdout.readline()) for _ in range(5)]
    process.kill()
    process.wait()
    assert torch.load(path, weights_only=True)["n"] >= written[-1]
