"""The one writer: every row of a run passes through here, to the record of truth first and to all other loggers after it."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.loggers import Logger

from ocrsdk.errors import LoggerError
from ocrsdk.loggers.base import KeepsState, KnowsImages, KnowsRows, LogsImages
from ocrsdk.loggers.rows import jsonable
from ocrsdk.loggers.thread import MOST_WAITING, LoggerThread
from ocrsdk.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

_MEASURED = ("speed/", "memory/", "profile/", "cache/")
"""Metrics that differ when the same work is done again."""
_ADDED = frozenset(("step", "time", "row", "samples", "wall_time"))
"""Columns that are not among the metrics of a row when it is logged."""
_HURRY = 1.0
"""Seconds that a logger gets once the run was asked to stop and a row has hung already."""
_FINISH = 60.0
"""Seconds that a logger gets at the end of a run, to send and close what it has."""


class RunLogger(Logger):
    """Numbers rows, adds the columns that every row has, and passes them on: a Lightning logger for any trainer.

    The first logger is the record of truth and is called at once. Each other one has a thread of its own: a logger that raises,
    that needs longer than ``patience`` for a call, or that falls thousands of rows behind is named, switched off, and told of at
    the end; the training does not wait for it.

    Args:
        name: The run's name.
        loggers: Name -> logger; the first one is the record of truth.
        last_row: Number of the last row that the record holds already.
        superseded: Rows that were logged after the checkpoint from which the run goes on; the run will make them again.
        columns: Further columns of every row.
        patience: Seconds that a call of a logger may take.
        run_id: Stays the same when the run is resumed.
        reopen: Loggers for rows that come after ``finalize``, as those of ``trainer.validate`` after ``trainer.fit``; given what
            the loggers remembered.
    """

    def __init__(
        self,
        name: str,
        loggers: Mapping[str, Any],
        last_row: int = 0,
        superseded: Sequence[Mapping[str, Any]] = (),
        columns: Callable[[], dict[str, float]] = dict,
        patience: float = 10.0,
        run_id: str = "",
        reopen: Callable[[dict[str, object]], Mapping[str, object]] | None = None,
    ) -> None:
        super().__init__()
        self._name, self.run_id = name, run_id
        self.loggers = dict(loggers)
        self.last_row = last_row
        """Number of the row logged last. No number is ever used for two different rows, so after a resume some may be missing."""
        self.problems: dict[str, str] = {}
        """Logger -> why it was switched off, or what it found missing at the end."""
        self.seconds = 0.0
        """Time spent here."""
        self.patience = patience
        self._columns = columns
        self._record = next(iter(self.loggers))
        self._threads = {other: LoggerThread(other) for other in list(self.loggers)[1:]}
        self._record_missed = 0
        self._slow: set[str] = set()
        self._states: dict[str, Any] = {}
        self._repeats = deque(superseded)
        self._turned = False
        self._hurried = self._finished = False
        self._reopen = reopen
        self._pid = os.getpid()

    @property
    def name(self) -> str:
        """The run's name."""
        return self._name

    @property
    def version(self) -> str:
        """Empty: the run folder tells runs of one name apart."""
        return ""

    @property
    def missed(self) -> dict[str, int]:
        """Logger -> rows that it did not take, for loggers that were switched off."""
        found = {name: thread.missed for name, thread in self._threads.items() if name in self.problems}
        return {self._record: self._record_missed, **found} if self._record in self.problems else found

    def active(self) -> dict[str, object]:
        """The loggers that have not failed."""
        self._look()
        return {name: logger for name, logger in self.loggers.items() if name not in self.problems}

    @rank_zero_only
    def log_hyperparams(self, params: object, *args: object, **kwargs: object) -> None:
        """Does nothing: settings come with ``RunInfo``, when a logger is built."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log one row.

        Args:
            metrics: Name -> value.
            step: The trainer's step; any order, any number of rows for one step.

        Raises:
            LoggerError: In a forked process: it would write into the parent's files.
        """
        start = time.perf_counter()
        self._check_process()
        self._open_again()
        repeated = self._number_row(metrics, step)
        row = {**metrics, **self._columns(), "row": self.last_row}
        self._to_record(self.loggers[self._record].log_metrics, row, step)
        self._look()
        for name, thread in self._threads.items():
            thread.put(_deliver(self.loggers[name], dict(row), step, repeated), rows=1)
        self.seconds += time.perf_counter() - start

    def send_missing(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Give the loggers that know their rows those that a killed process could not deliver any more.

        Args:
            rows: Those of the record of truth.
        """
        for name, thread in self._threads.items():
            if isinstance(self.loggers[name], KnowsRows):
                thread.put(_send_all(self.loggers[name], list(rows)))

    def _number_row(self, metrics: dict[str, float], step: int | None) -> bool:
        """Number the next row; True if it was logged before, by the part of the run after the checkpoint that was lost."""
        for index, before in enumerate(self._repeats):
            if _is_same(before, metrics, step):
                for _ in range(index + 1):
                    self._repeats.popleft()
                self.last_row = before["row"]
                return True
        if self._repeats:  # the run has taken another turn: leave the numbers of those rows to them
            self._turned = True
            self.last_row = max(before["row"] for before in self._repeats)
            self._repeats.clear()
        self.last_row += 1
        return False

    def wants_images(self) -> bool:
        """Whether a logger takes pictures."""
        return any(isinstance(logger, LogsImages) for logger in self.active().values())

    @rank_zero_only
    def log_images(self, key: str, images: Sequence[NDArray[np.uint8]], captions: list[str], step: int) -> None:
        """Log pictures, with the loggers that take them.

        Args:
            key: What they show.
            images: (H, W, 3) RGB each.
            captions: One for each.
            step: The trainer's step.
        """
        self._check_process()
        self._open_again()
        for name, logger in self.active().items():
            if isinstance(logger, LogsImages):
                call = _deliver_images(logger, key, images, captions, step, self._turned)
                if name == self._record:
                    self._to_record(call)
                else:
                    self._threads[name].put(call)

    @rank_zero_only
    def save(self) -> None:
        """Called by Lightning after each row."""
        if self._finished:
            return
        self._to_record(self.loggers[self._record].save)
        for name, thread in self._threads.items():
            thread.put(self.loggers[name].save)

    def state(self) -> dict[str, Any]:
        """For a checkpoint: what each logger remembers. Rows so far are durable, or their logger is switched off."""
        record = self.loggers[self._record]
        if isinstance(record, KeepsState):
            self._states[self._record] = self._to_record(record.state)
        deadline = time.monotonic() + self._wait
        asked = {}
        for name, thread in self._threads.items():  # all of them at once: a slow one does not use up the time of the others
            logger = self.loggers[name]
            if isinstance(logger, KeepsState) and name not in self.problems:
                asked[name] = thread.begin(logger.state)
        for name, answer in asked.items():
            made, state = self._threads[name].wait(answer, deadline - time.monotonic(), self._wait)
            if made:
                self._states[name] = state
        self._look()
        return {name: state for name, state in self._states.items() if state is not None}

    def flush(self, seconds: float | None = None) -> None:
        """Wait until every logger has taken its rows, or is switched off.

        Args:
            seconds: At most so long; ``patience`` by default.
        """
        deadline = time.monotonic() + (self._wait if seconds is None else seconds)
        for thread, answer in [(thread, thread.begin(lambda: None)) for thread in self._threads.values()]:
            thread.wait(answer, deadline - time.monotonic())
        self._look()

    def hurry(self) -> None:
        """The run was asked to stop: wait no longer for a logger that hangs."""
        self._hurried = True

    def _open_again(self) -> None:
        if not self._finished or self._reopen is None:
            return
        self._finished = False
        for name, logger in self._reopen(self._states).items():
            if name in self.loggers and name not in self.problems:
                self.loggers[name] = logger
                if name in self._threads:
                    self._threads[name] = LoggerThread(name)

    @property
    def _wait(self) -> float:
        return min(self.patience, _HURRY) if self._hurried else self.patience

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close all loggers, and say what they missed."""
        if self._pid != os.getpid() or self._finished:
            return
        self._finished = True
        record = self.loggers[self._record]
        if isinstance(record, KeepsState):
            self._states[self._record] = self._to_record(record.state)
        if self._record not in self.problems:
            try:
                self.loggers[self._record].finalize(status)
            except Exception as error:  # noqa: BLE001 - whatever a logger raises must not cost the run
                self._tell_end(self._record, _one_line(error))
        deadline = time.monotonic() + (10 * _HURRY if self._hurried else _FINISH)
        self._look()
        working = {name: thread for name, thread in self._threads.items() if name not in self.problems}
        asked = {name: thread.begin(_finish(self.loggers[name], status)) for name, thread in working.items()}
        for name, thread in working.items():
            made, _ = thread.wait(asked[name], deadline - time.monotonic(), self._wait)
            if made or name in self.problems:
                continue
            if thread.failure is not None and not thread.missed:
                self._tell_end(name, _one_line(thread.failure))
            elif thread.failure is None:
                late = f"had not taken {thread.missed} of its rows" if thread.missed else "had not closed"
                self._switch_off(name, f"{late} when the run ended")
        self._look()
        for name, rows in self.missed.items():
            if rows:
                get_logger(__name__).warning(
                    "a logger missed rows", logger=name, rows=rows, of=self.last_row, reason=self.problems[name],
                    remedy=self._remedy(name),
                )  # fmt: skip

    def _tell_end(self, name: str, reason: str) -> None:
        self.problems[name] = reason
        get_logger(__name__).warning("a logger ended with an error", logger=name, reason=reason, remedy=self._remedy(name))

    def _remedy(self, name: str) -> str:
        return "all rows are in metrics.jsonl" + f"; send them with: ocrsdk logs sync RUN --to {name}" * (name != self._record)

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise LoggerError("rows are logged by the process of the run alone; return values from loader workers instead")

    def _to_record(self, call: Callable[..., object], *arguments: object) -> object:
        if self._record in self.problems:
            self._record_missed += len(arguments) > 0
            return None
        try:
            return call(*arguments)
        except Exception as error:
            if "DataLoader worker" in str(error):
                raise
            self._record_missed = 1 if arguments else 0
            self._switch_off(self._record, _one_line(error))
            return None

    def _look(self) -> None:
        """Notice loggers that have failed, hang, or are far behind."""
        for name, thread in self._threads.items():
            if name in self.problems:
                continue
            busy, waiting = thread.busy_for, thread.missed
            if thread.failure is not None:
                self._switch_off(name, _one_line(thread.failure))
            elif busy > self._wait:
                self._switch_off(name, f"one call takes longer than {self._wait:g} s")
            elif waiting > MOST_WAITING:
                self._switch_off(name, f"it is {waiting:,} rows behind")
            elif busy > self._wait / 4 and name not in self._slow:
                self._slow.add(name)
                get_logger(__name__).warning(
                    "a logger is slow; training does not wait for it", logger=name, seconds=round(busy, 1), rows_waiting=waiting,
                    switched_off_after=f"{self.patience:g} s",
                )  # fmt: skip

    def _switch_off(self, name: str, reason: str) -> None:
        self.problems[name] = reason
        if name in self._threads:
            self._threads[name].switch_off()
        get_logger(__name__).warning("a logger failed and is switched off; the run goes on", logger=name, reason=reason)


def _deliver(logger: Any, row: dict[str, Any], step: int | None, repeated: bool) -> Callable[[], None]:
    def call() -> None:
        if not (repeated and (not isinstance(logger, KnowsRows) or logger.has_row(row["row"]))):
            logger.log_metrics(row, step)

    return call


def _deliver_images(
    logger: Any, key: str, images: Sequence[NDArray[np.uint8]], captions: list[str], step: int, turned: bool
) -> Callable[[], None]:
    def call() -> None:
        if turned or not (isinstance(logger, KnowsImages) and logger.has_images(key, step)):
            logger.log_image(key, images, step, caption=captions)

    return call


def _send_all(logger: Any, rows: list[Mapping[str, object]]) -> Callable[[], None]:
    def call() -> None:
        for metrics, step in missing_rows(logger, rows):
            logger.log_metrics(metrics, step)

    return call


def _finish(logger: Any, status: str) -> Callable[[], None]:
    return lambda: logger.finalize(status)


def missing_rows(logger: object, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[dict[str, object], int | None]]:
    """(metrics, step) of each row of the record of truth that ``logger`` does not have; all, if it cannot tell."""
    for row in rows:
        if not (isinstance(logger, KnowsRows) and logger.has_row(row["row"])):
            yield {key: value for key, value in row.items() if key not in ("step", "time")}, row["step"]


def _is_same(before: Mapping[str, object], metrics: Mapping[str, float], step: int | None) -> bool:
    def made(row: Mapping[str, object]) -> dict[str, object]:
        return {key: value for key, value in row.items() if not (key in _ADDED or key.startswith(_MEASURED))}

    return before["step"] == step and made(before) == {key: jsonable(value) for key, value in made(metrics).items()}


def _one_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
