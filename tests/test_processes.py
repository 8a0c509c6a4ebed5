"""No process that a command starts outlives it, whatever ends the command, and whenever."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.training.runs import SMALL

ENDINGS = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL]
SILENT: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
PARENT = """
import signal, sys
from ocrsdk.processes import python_module

def end(number, frame):
    raise KeyboardInterrupt

for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, end)
print("ready", flush=True)
with python_module("timeit", ["-n1", "-r1", "import time; time.sleep(300)", sys.argv[1]]) as child:
    child.wait()
"""


def marked(mark: str) -> list[psutil.Process]:
    """Living processes that carry ``mark`` in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("MARK") == mark:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def gone(mark: str, seconds: float) -> list[psutil.Process]:
    """What is left after at most so many seconds."""
    end = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < end:
        time.sleep(0.05)
    return left


@pytest.mark.parametrize("number", ENDINGS)
def test_a_module_ends_with_the_process_that_runs_it(number: signal.Signals):
    rng = random.Random(int(number))
    for _ in range(5):
        mark = uuid.uuid4().hex
        parent = subprocess.Popen([sys.executable, "-c", PARENT, "pass"], env={**os.environ, "MARK": mark}, **SILENT)
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0, 0.15))  # from within the start of the child to well after it
        parent.send_signal(number)
        parent.communicate(timeout=20)
        assert gone(mark, 5) == []


def test_a_module_gets_its_arguments_and_streams(tmp_path: Path):
    from ocrsdk.processes import python_module

    with python_module("calendar", ["2026"], stdout=subprocess.PIPE) as child:
        text, _ = child.communicate()
    assert child.returncode == 0
    assert "2026" in text
    assert text == subprocess.run([sys.executable, "-m", "calendar", "2026"], capture_output=True, text=True, check=True).stdout


def test_a_module_is_killed_when_its_context_ends():
    from ocrsdk.processes import python_module

    with python_module("timeit", ["-n1", "-r1", "import time; time.sleep(300)"]) as child:
        assert child.poll() is None
    assert child.returncode == -signal.SIGKILL


COMMANDS: dict[str, list[Any]] = {
    "train": ["train", "DATA", "--epochs", "100000", "--workers", "2", *SMALL],
    "check": ["precision", "check", "DATA", "--candidate", "fp16-safe", "--epochs", "1000", "--set", "data.workers=2"],
    "bench": ["bench", "precision", "--size", "64", "--steps", "100000"],
    "warm": ["cache", "warm", "DATA", "--set", "data.workers=2"],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number"),
    [("train", signal.SIGSTOP), ("check", signal.SIGTERM), ("bench", signal.SIGKILL), ("warm", signal.SIGHUP)],  # all: make soak
)
def test_f74_no_process_outlives_its_command(tmp_path: Path, synth_pages: Path, name: str, number: signal.Signals):
    mark = uuid.uuid4().hex
    command = [sys.executable, "-m", "ocrsdk", *(str(synth_pages) if word == "DATA" else word for word in COMMANDS[name])]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, "MARK": mark}, stdout=said, stderr=said, start_new_session=True
        )
        end = time.monotonic() + 60
        while len(marked(mark)) < 2 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(random.Random(f"{name} {number}").uniform(0, 4))
        process.send_signal(number)
        if number == signal.SIGSTOP:  # whatever it was doing, and its children go on
            time.sleep(0.5)
            process.kill()
        process.wait(30)
    assert gone(mark, 10) == [], (tmp_path / "said").read_text()
