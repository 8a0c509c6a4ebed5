"""The default logger, through Lightning's own interface and a real file; full disks, kills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ocrsdk.errors import RunFolderError
from ocrsdk.loggers.base import RunInfo
from ocrsdk.loggers.factories import JsonlLoggerFactory
from ocrsdk.loggers.jsonl import JsonlLogger
from ocrsdk.loggers.rows import read_rows
from ocrsdk.testing.loggers import LoggerSuite


class TestJsonl(LoggerSuite):
    factory = JsonlLoggerFactory

    def read(self, folder: Path) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [{**row, "trainer/step": row["step"]} for row in rows]


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


def test_a_full_disk_costs_no_row(tmp_path: Path):
    """The file is limited to two pages; the rest is kept until there is room."""
    code = """
import resource, signal, sys
from pathlib import Path
from ocrsdk.loggers.jsonl import JsonlLogger
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
logger = JsonlLogger(Path("m.jsonl"), "r")
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
for step in range(500):
    logger.log_metrics({"train/loss": step / 7}, step)
assert Path("m.jsonl").read_bytes().endswith(b"\\n")
early = logger.state()["rows"]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
logger.log_metrics({"train/loss": 0.0}, 500)
logger.finalize("success")
print(early)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout.split()[-1]) < 400
    assert (done.stdout + done.stderr).count("rows cannot be written; they are kept and tried again") == 1
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(501))


@pytest.mark.parametrize("step", [3, 2**62])
def test_a_process_that_is_killed_loses_no_row(tmp_path: Path, step: int):
    code = f"""
import os, signal
from pathlib import Path
from ocrsdk.loggers.jsonl import JsonlLogger
logger = JsonlLogger(Path("m.jsonl"), "r")
for i in range(100):
    logger.log_metrics({{"a": float(i)}}, {step})
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, env=os.environ)
    assert done.returncode == -9
    assert [row["a"] for row in read_rows(tmp_path / "m.jsonl")] == [float(i) for i in range(100)]
