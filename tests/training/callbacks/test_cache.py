"""Hits and misses in the rows of a run: killed, started again, with changed labels and settings."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.commands import SMALL, document
from tests.conftest import CLI


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_training_hits_from_the_second_epoch_and_after_kill_9(
    cli: CLI, home: dict[str, str], synth_pages: Path, tmp_path: Path, workers: str
):
    data = tmp_path / "data"
    shutil.copytree(synth_pages, data)
    common = (*SMALL, "--set", "data.crop=64", "--workers", workers)
    command = [sys.executable, "-m", "ocrsdk", "train", str(data), "--epochs", "500", "--run-dir", "killed", *common]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("OCRSDK_")}
    with subprocess.Popen(
        command, cwd=tmp_path, env={**clean, **home}, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 120
        log = tmp_path / "killed" / "metrics.jsonl"
        while time.monotonic() < deadline and not (log.exists() and "cache/hit_rate" in log.read_text()):
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    result = cli("train", data, "--epochs", "3", "--run-dir", "again", *common, "--set", "trainer.validations=1", env=home)
    assert result.returncode == 0, result.stderr
    rates = [row["cache/hit_rate"] for row in metrics(tmp_path / "again") if "cache/hit_rate" in row]
    # The killed run never validated, so the last epoch, which validates, makes the two validation samples.
    assert rates[:2] == [1.0, 1.0]
    assert rates[2] == pytest.approx(6 / 8)
    label = sorted((data / "train/labels").iterdir())[0]
    label.write_text(label.read_text() + "1,1,30,1,30,12,1,12,more\n")
    result = cli(
        "train", data, "--epochs", "2", "--run-dir", "edited", *common, "--set", "trainer.validations=1",
        "--batch-size", "3", "--set", "targets.shrink_ratio=0.5", env=home,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = [row for row in metrics(tmp_path / "edited") if "cache/hit_rate" in row]
    assert [row["cache/regenerated"] for row in rows] == [1.0, 0.0]
    assert [row["cache/hit_rate"] for row in rows] == [pytest.approx(5 / 6), 1.0]
    status = document(cli, "status", *SMALL, env=home)
    (version,) = status["versions"]
    assert version["current"]
    assert version["sessions"]["edited"]["stale_annotation"] == 1
    assert document(cli, "health", *SMALL, env=home)["state"] == "healthy"
