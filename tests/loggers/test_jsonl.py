"""The default logger, through Lightning's own interface and a real file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocrsdk.errors import RunFolderError
from ocrsdk.loggers.base import RunInfo
from ocrsdk.loggers.factories import JsonlLoggerFactory
from ocrsdk.loggers.jsonl import JsonlLogger


def strict(text: str) -> list[dict]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def test_each_record_is_a_line_and_on_disk_at_once(tmp_path: Path):
    logger = JsonlLoggerFactory().build(RunInfo(tmp_path, "r"))
    logger.log_metrics({"a": 1.5}, 3)
    assert strict((tmp_path / "metrics.jsonl").read_text())[0].items() >= {"step": 3, "a": 1.5}.items()
    logger.log_metrics({"b": 2}, 4)
    assert [r["step"] for r in strict((tmp_path / "metrics.jsonl").read_text())] == [3, 4]
    logger.finalize("success")


def test_a_resumed_run_appends(tmp_path: Path):
    for step in (1, 2):
        logger = JsonlLogger(tmp_path / "m.jsonl", "r")
        logger.log_metrics({"a": 0.0}, step)
        logger.finalize("success")
    assert [r["step"] for r in strict((tmp_path / "m.jsonl").read_text())] == [1, 2]


def test_values_that_json_lacks_are_strings(tmp_path: Path):
    logger = JsonlLogger(tmp_path / "m.jsonl", "r")
    logger.log_metrics({"a": float("nan"), "b": float("inf"), "c": -float("inf")}, 0)
    record = strict((tmp_path / "m.jsonl").read_text())[0]
    assert (record["a"], record["b"], record["c"]) == ("nan", "inf", "-inf")


def test_a_file_that_cannot_be_written(tmp_path: Path):
    with pytest.raises(RunFolderError, match=r"absent/m\.jsonl: cannot be written"):
        JsonlLogger(tmp_path / "absent" / "m.jsonl", "r").log_metrics({"a": 1.0}, 0)
