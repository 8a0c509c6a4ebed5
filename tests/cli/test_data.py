"""``ocrsdk data``: pages that are generated once, and whole."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ocrsdk.data.folder import load_annotations
from tests.conftest import CLI


def test_command(cli: CLI, tmp_path: Path):
    args = ("data", "synth", "d", "--pages", "2", "--val-pages", "1", "--seed", "4")
    assert cli(*args).returncode == 0
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    result = cli(*args)
    assert result.returncode == 2
    assert "d: " in result.stderr
    result = cli(*args, "--exist-ok")
    assert result.returncode == 0
    assert "is there already" in result.stdout
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_drawing_leaves_nothing_in_the_way(cli: CLI, tmp_path: Path, number: signal.Signals):
    args = ("data", "synth", "out", "--pages", "4", "--val-pages", "2", "--exist-ok")
    long = [sys.executable, "-m", "ocrsdk", "data", "synth", "out", "--pages", "9999"]
    process = subprocess.Popen(long, cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.*/train/images/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(30) in (130, -signal.SIGKILL)
    assert not (tmp_path / "out").exists()
    assert (list(tmp_path.iterdir()) == []) == (number == signal.SIGINT)
    assert cli(*args).returncode == 0
    assert len(load_annotations(tmp_path / "out/train")[0]) == 4
    assert "is there already" in cli(*args).stdout
