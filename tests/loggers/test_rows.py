"""Rows of a file that a kill cut."""

from __future__ import annotations

from pathlib import Path

from ocrsdk.loggers.jsonl import JsonlLogger
from ocrsdk.loggers.rows import read_rows


def test_half_a_line_stays_apart(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 0, "a": 1.0}\n{"step": 1, "a"')
    logger = JsonlLogger(tmp_path / "metrics.jsonl", "r")
    logger.log_metrics({"a": 3.0}, 2)
    logger.finalize("success")
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [0, 2]
