"""The one writer: order, failures, resumed runs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning.loggers import Logger
from structlog.testing import capture_logs

from ocrsdk.loggers.base import RunInfo
from ocrsdk.loggers.factories import JsonlLoggerFactory
from ocrsdk.loggers.jsonl import SUPERSEDED, JsonlLogger
from ocrsdk.loggers.rows import read_rows
from ocrsdk.loggers.run_logger import RunLogger


class Memory(Logger):
    name, version = "memory", ""

    def __init__(self, fail_at: int | None = None, end: Exception | None = None) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, Any]]] = []
        self.fail_at, self.end = fail_at, end

    def log_hyperparams(self, *_args: Any, **_kwargs: Any) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if len(self.rows) == self.fail_at:
            raise ConnectionResetError("the server\nhas gone")
        self.rows.append((step, metrics))

    def save(self) -> None: ...

    def finalize(self, status: str) -> None:
        if self.end is not None:
            raise self.end


def test_a_failing_logger_is_switched_off_once_and_told_at_the_end():
    good, bad = Memory(), Memory(fail_at=2)
    logger = RunLogger("r", {"record": good, "bad": bad})
    with capture_logs() as logs:
        for step in range(6):
            logger.log_metrics({"a": 1.0}, step)
            logger.flush()
        logger.finalize("success")
    assert len(good.rows) == 6
    assert len(bad.rows) == 2
    assert [(entry["event"], entry.get("rows")) for entry in logs] == [
        ("a logger failed and is switched off; the run goes on", None),
        ("a logger missed rows", 4),
    ]
    assert logs[0]["reason"] == "the server"
    assert logger.problems == {"bad": "the server"}


def test_an_error_at_the_end_is_told_and_ends_nothing():
    logger = RunLogger("r", {"record": Memory(), "late": Memory(end=RuntimeError("no answer"))})
    with capture_logs() as logs:
        logger.finalize("success")
    assert [entry["event"] for entry in logs] == ["a logger ended with an error"]
    assert logger.problems == {"late": "no answer"}


def test_axes_and_row_numbers():
    memory = Memory()
    logger = RunLogger("r", {"m": memory}, last_row=10, columns=lambda: {"samples": 7, "wall_time": 1.5})
    logger.log_metrics({"a": 1.0, "epoch": 2}, 3)
    assert memory.rows == [(3, {"a": 1.0, "epoch": 2, "samples": 7, "wall_time": 1.5, "row": 11})]


def test_rows_after_the_checkpoint_are_set_aside_and_not_sent_twice(tmp_path: Path):
    first = JsonlLogger(tmp_path / "metrics.jsonl", "r")
    run = RunLogger("r", {"jsonl": first})
    for step in range(4):
        run.log_metrics({"train/loss": step / 2, "speed/images_per_second": 1.0}, step)
        if step == 1:
            state = run.state()["jsonl"]
    assert state == {"rows": 2}
    # the process is killed here; the run goes on from the checkpoint
    again = JsonlLoggerFactory().build(RunInfo(tmp_path, "r", resumed=True, state=state))
    assert isinstance(again, JsonlLogger)
    assert [row["step"] for row in again.superseded] == [2, 3]
    sink = Memory()
    run = RunLogger("r", {"jsonl": again, "sink": sink}, again.last_row, again.superseded)
    for step in range(2, 6):
        run.log_metrics({"train/loss": step / 2, "speed/images_per_second": 9.0}, step)
    run.finalize("success")
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row["row"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in sink.rows] == [4, 5]
    assert len((tmp_path / SUPERSEDED).read_text().splitlines()) == 2


def test_rows_that_a_killed_process_could_not_deliver_are_sent(tmp_path: Path):
    class Knowing(Memory):
        def has_row(self, row: int) -> bool:
            return row != 2

    record, plain, knowing = Memory(), Memory(), Knowing()
    run = RunLogger("r", {"jsonl": record, "plain": plain, "knowing": knowing}, 3)
    run.send_missing([{"step": step, "time": 1.0, "a": float(step), "row": step - 4} for step in (5, 6, 7)])
    run.flush()
    assert (record.rows, plain.rows) == ([], [])
    assert knowing.rows == [(6, {"a": 6.0, "row": 2})]


def test_a_resumed_run_that_turns_elsewhere_is_sent_in_full_under_new_numbers(tmp_path: Path):
    superseded = [
        {"step": 2, "train/loss": 1.0, "row": 3}, {"step": 3, "train/loss": 1.5, "row": 4}, {"step": 4, "train/loss": 2.0, "row": 5}
    ]  # fmt: skip
    record, sink = Memory(), Memory()
    run = RunLogger("r", {"jsonl": record, "sink": sink}, 2, superseded)
    for step, loss in ((2, 1.0), (3, 7.0), (4, 2.0)):
        run.log_metrics({"train/loss": loss}, step)
    run.flush()
    assert [(step, row["row"]) for step, row in sink.rows] == [(3, 6), (4, 7)]
    assert [row["row"] for _, row in record.rows] == [3, 6, 7]


def test_a_row_of_the_same_step_is_not_the_same_row():
    trained = {"step": 9, "train/loss": 1.0, "epoch": 0, "row": 1}
    ended = {"step": 9, "speed/images_per_second": 5.0, "epoch": 0, "row": 2}
    run = RunLogger("r", {"jsonl": (record := Memory())}, 0, [trained, ended])
    run.log_metrics({"speed/images_per_second": 7.0, "epoch": 0}, 9)  # training rows are logged less often now
    assert [row["row"] for _, row in record.rows] == [2]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 8), st.floats(0, 1), st.sampled_from([0.0, 0.0, 0.5])), min_size=1, max_size=5
    )
)
def test_however_often_a_run_is_killed_each_row_arrives_once(parts: list[tuple[int, int, float, float]]):
    """Each part logs some rows, saves, logs some more and is killed; a part with another learning rate takes another turn.

    What the other logger got last under each number, for the numbers that the record ends with, is the record.
    """

    class Sink(Memory):
        def __init__(self, there: set[int]) -> None:
            super().__init__()
            self.there = there

        def has_row(self, row: int) -> bool:
            return row in self.there

    with tempfile.TemporaryDirectory() as name:
        folder, state, start = Path(name), {}, 0
        delivered: list[dict[str, Any]] = []
        for number, (saved, lost, share, turn) in enumerate(parts):
            record = JsonlLoggerFactory().build(RunInfo(folder, "r", resumed=number > 0, state=state))
            assert isinstance(record, JsonlLogger)
            sink = Sink({row["row"] for row in delivered})
            run = RunLogger("r", {"jsonl": record, "sink": sink}, record.last_row, record.superseded)
            run.send_missing(read_rows(folder / "metrics.jsonl"))
            for step in range(start, start + saved):
                run.log_metrics({"train/loss": step + turn}, step)
            state, start = run.state()["jsonl"], start + saved
            for step in range(start, start + lost):
                run.log_metrics({"train/loss": step + turn}, step)
            run.flush()
            arrived = sink.rows[: round(len(sink.rows) * share)] if number < len(parts) - 1 else sink.rows
            delivered += [{**row, "step": step} for step, row in arrived]
        numbers = [row["row"] for row in delivered]
        assert len(numbers) == len(set(numbers))
        rows = read_rows(folder / "metrics.jsonl")
        assert [row["step"] for row in rows] == list(range(len(rows)))
        by_number = {row["row"]: row for row in delivered}
        for row in rows:
            got = by_number[row["row"]]
            assert (got["step"], got["train/loss"]) == (row["step"], row["train/loss"])
