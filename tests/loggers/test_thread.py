"""A slow logger does not hold up the training, is named, and can be filled later."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
from structlog.testing import capture_logs

from ocrsdk import RowLogger
from ocrsdk.loggers.jsonl import JsonlLogger
from ocrsdk.loggers.run_logger import RunLogger
from ocrsdk.loggers.thread import LoggerThread
from tests.conftest import CLI
from tests.packages import install


class Hanging(RowLogger):
    """Takes two rows, then hangs until it is released."""

    def __init__(self, release: threading.Event, after: int = 2) -> None:
        super().__init__("hanging")
        self.release, self.after, self.rows = release, after, list[dict[str, Any]]()

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        if len(self.rows) == self.after:
            self.release.wait()
        self.rows.append(metrics)


@pytest.fixture
def release():
    event = threading.Event()
    yield event
    event.set()


def test_a_logger_that_hangs_is_named_and_switched_off_and_the_record_is_whole(tmp_path: Path, release: threading.Event):
    hanging = Hanging(release)
    run = RunLogger("r", {"jsonl": (record := JsonlLogger(tmp_path / "m.jsonl", "r")), "slow": hanging}, patience=0.4)
    with capture_logs() as logs:
        step = 0
        while "slow" not in run.problems:
            run.log_metrics({"a": 1.0}, step)
            step += 1
            time.sleep(0.02)
        for more in range(5):
            run.log_metrics({"a": 1.0}, step + more)
        start = time.monotonic()
        assert run.state() == {"jsonl": {"rows": record.rows}}
        run.finalize("success")
        assert time.monotonic() - start < 0.3  # nobody waits for it any more
    assert [entry["event"] for entry in logs] == [
        "a logger is slow; training does not wait for it",
        "a logger failed and is switched off; the run goes on",
        "a logger missed rows",
    ]
    assert {entry["logger"] for entry in logs} == {"slow"}
    assert run.problems["slow"] == "one call takes longer than 0.4 s"
    assert record.rows == step + 5
    assert run.missed["slow"] == step + 5 - 2
    assert "ocrsdk logs sync RUN --to slow" in logs[-1]["remedy"]


def test_a_logger_that_is_slow_but_not_too_slow_gets_every_row(tmp_path: Path):
    class Slow(RowLogger):
        rows: ClassVar[list[int]] = []

        def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
            time.sleep(0.05)
            self.rows.append(metrics["row"])

    run = RunLogger("r", {"jsonl": JsonlLogger(tmp_path / "m.jsonl", "r"), "slow": Slow("slow")}, patience=2)
    start = time.monotonic()
    for step in range(20):
        run.log_metrics({"a": 1.0}, step)
    assert time.monotonic() - start < 0.5  # a second's worth of rows
    run.finalize("success")
    assert Slow.rows == list(range(1, 21))
    assert run.problems == {}


def test_a_logger_that_closes_slowly_leaves_the_others_their_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from ocrsdk.loggers import run_logger

    monkeypatch.setattr(run_logger, "_FINISH", 0.4)
    closed = threading.Event()

    class Slow(RowLogger):
        def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
            pass

        def finalize(self, status: str) -> None:
            time.sleep(2)

    class Buffers(Slow):
        def finalize(self, status: str) -> None:
            closed.set()

    logger = RunLogger("run", {"jsonl": JsonlLogger(tmp_path / "m.jsonl", "run"), "slow": Slow("run"), "buffers": Buffers("run")})
    logger.log_metrics({"loss": 1.0}, 1)
    logger.finalize("success")
    assert closed.is_set()
    assert set(logger.problems) == {"slow"}
    assert "had not closed when the run ended" in str(logger.problems["slow"])


def test_a_run_that_is_asked_to_stop_does_not_wait(tmp_path: Path, release: threading.Event):
    run = RunLogger("r", {"jsonl": JsonlLogger(tmp_path / "m.jsonl", "r"), "slow": Hanging(release, 0)}, patience=60)
    run.log_metrics({"a": 1.0}, 0)
    run.hurry()
    start = time.monotonic()
    run.state()
    run.finalize("success")
    assert time.monotonic() - start < 5
    assert "slow" in run.problems


def test_a_fork_waits_for_a_call_under_way():
    """What the logger's library holds during a call, no child inherits held."""
    lock, inside = threading.Lock(), threading.Event()
    thread = LoggerThread("x")

    def call() -> None:
        with lock:
            inside.set()
            time.sleep(0.3)

    thread.put(call, 1)
    assert inside.wait(5)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if lock.acquire(timeout=1) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert thread.ask(lambda: 7, 5) == (True, 7)


BLOCKS = """
import time
import ocrsdk

class Blocks(ocrsdk.RowLogger):
    def log_metrics(self, metrics, step=None):
        time.sleep(300)

class BlocksFactory(ocrsdk.LoggerFactory):
    name = "blocks"
    summary = "never comes back"
    def build(self, run):
        return Blocks(run.name)

@ocrsdk.hookimpl
def ocrsdk_register_loggers():
    return [BlocksFactory]
"""


@pytest.mark.slow
def test_training_with_a_logger_that_blocks_is_as_long_as_without(cli: CLI, tmp_path: Path, synth_pages: Path):
    site = tmp_path / "site"
    site.mkdir()
    install(site, "blocks", BLOCKS)
    size = ("--set", "data.crop=64", "--set", "data.short_side=96", "--workers", "0", "--set", "logging.every_n_steps=1")
    start = time.monotonic()
    result = cli(
        "train", synth_pages, "--epochs", "4", "--logger", "blocks", "--set", "logging.patience=2s", "--run-dir", "run", *size,
        env={"PYTHONPATH": str(site)}, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - start < 60
    assert "blocks: one call takes longer than" in result.stdout or "blocks: had not taken" in result.stdout
    assert "send its rows later: ocrsdk logs sync run --to blocks" in result.stdout
