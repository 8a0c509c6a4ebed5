"""No process that a command starts outlives it, whatever ends the command, and whenever."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest

from ocrsdk.errors import DataError, OcrsdkError
from ocrsdk.processes import in_processes
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


def test_work_is_given_back_in_order_by_several_processes():
    found = list(in_processes(lambda job: (job * job, os.getpid()), 20, 3))
    assert [result for result, _ in found] == [job * job for job in range(20)]
    assert len({pid for _, pid in found}) == 3
    assert os.getpid() not in {pid for _, pid in found}
    assert [pid for _, pid in in_processes(lambda job: (job, os.getpid()), 1, 3)] == [os.getpid()]


def test_an_error_at_work_is_raised_where_its_result_is_taken():
    def work(job: int) -> int:
        if job == 3:
            raise DataError("page 3", parameter="data")
        return job

    results = in_processes(work, 9, 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="page 3") as error:
        next(results)
    assert error.value.parameter == "data"


def test_a_process_at_work_that_is_killed_is_told():
    def work(job: int) -> int:
        if job == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return job

    with pytest.raises(OcrsdkError, match="exit code -9"):
        list(in_processes(work, 6, 2))


class OddError(Exception):
    """Is pickled, and cannot be made again."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} {other}")


def test_an_error_that_cannot_be_sent_is_told():
    def work(job: int) -> int:
        raise OddError("page", str(job))

    with pytest.raises(RuntimeError, match="OddError: page 0"):
        next(in_processes(work, 4, 2))


def in_a_daemon(pipe: Connection) -> None:
    pipe.send([pid == os.getpid() for pid in in_processes(lambda _: os.getpid(), 4, 2)])


def test_a_daemon_does_the_work_itself():
    ours, theirs = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=in_a_daemon, args=(theirs,), daemon=True)
    process.start()
    assert ours.poll(30)
    assert ours.recv() == [True] * 4
    process.join()


AT_WORK = """
import sys, time
from ocrsdk.processes import in_processes
for _ in in_processes(lambda job: time.sleep(300 if job > 1 else 0), 8, 4):
    print("ready", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_processes_at_work_end_with_their_parent(number: int):
    mark = uuid.uuid4().hex
    process = subprocess.Popen([sys.executable, "-c", AT_WORK], env={**os.environ, "MARK": mark}, **SILENT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    assert len(marked(mark)) == 5
    process.send_signal(number)
    process.wait(20)
    end = time.monotonic() + 20
    while marked(mark) and time.monotonic() < end:
        time.sleep(0.05)
    assert not marked(mark)
