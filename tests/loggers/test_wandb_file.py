"""W&B's own files, whole and damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocrsdk.errors import LoggerError
from ocrsdk.loggers.wandb_file import read_history
from tests.loggers.offline import offline


def test_a_file_of_several_blocks_and_a_damaged_one(tmp_path: Path):
    logger = offline(tmp_path)
    for i in range(300):
        logger.log_metrics({f"metric/{j}": i + j / 100 for j in range(20)}, i)
    logger.finalize("success")
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = path.read_bytes()
    assert len(content) > 3 * 32768
    assert [row["metric/7"] for row in read_history(path)] == [i + 0.07 for i in range(300)]
    path.write_bytes(content[: len(content) // 2])  # as a kill leaves it
    assert 50 < len(read_history(path)) < 300
    for at in (40_000, 70_001):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(LoggerError, match="damaged record"):
            read_history(path)
    path.write_bytes(b"text" * 100)
    with pytest.raises(LoggerError, match="not a .wandb file"):
        read_history(path)
