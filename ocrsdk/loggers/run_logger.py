"""The one writer: every row of a run passes through here, to the record of truth first and to all other loggers after it."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from lightning_fabric.utilities.rank_zero import rank_zero_only

from ocrsdk.errors import LoggerError
from ocrsdk.loggers.base import KeepsState, KnowsImages, KnowsRows, LogsImages
from ocrsdk.loggers.row_logger import RowLogger
from ocrsdk.loggers.rows import jsonable
from ocrsdk.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from pytorch_lightning.loggers import Logger

_MEASURED = ("speed/", "memory/", "profile/", "cache/")
"""Metrics that differ when the same work is done again."""
_ADDED = frozenset(("step", "time", "row", "samples", "wall_time"))
"""Columns that are not among the metrics of a row when it is logged."""


class RunLogger(RowLogger):
    """Numbers rows, adds the axes, and passes them on; a logger that fails is switched off with one warning.

    Args:
        name: The run's name.
        loggers: Name -> Lightning logger; the first one is the record of truth.
        last_row: Number of the last row that the record holds already.
        superseded: Rows that were logged after the checkpoint from which the run goes on; the run will make them again.
    """

    def __init__(
        self,
        name: str,
        loggers: Mapping[str, Logger],
        last_row: int = 0,
        superseded: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(name)
        self.loggers = dict(loggers)
        self.axes: Callable[[], dict[str, float]] = dict
        """Further columns of every row; set by ``callbacks.rows.Rows``."""
        self.last_row = last_row
        """Number of the row logged last. No number is ever used for two different rows, so after a resume some may be left out."""
        self.missed: dict[str, int] = {}
        """Logger -> rows that it did not take, for loggers that were switched off."""
        self.problems: dict[str, str] = {}
        """Logger -> why it was switched off, or what it found missing at the end."""
        self.seconds = 0.0
        """Time spent here."""
        self._repeats = deque(superseded)
        self._turned = False
        self._pid = os.getpid()

    def active(self) -> dict[str, Logger]:
        """The loggers that have not failed."""
        return {name: logger for name, logger in self.loggers.items() if name not in self.missed}

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """One row.

        Args:
            metrics: Name -> value.
            step: The trainer's step; any order, any number of rows for one step.

        Raises:
            LoggerError: In a forked process: it would write into the parent's files.
        """
        start = time.perf_counter()
        self._check_process()
        repeated = self._number_row(metrics, step)
        row = {**metrics, **self.axes(), "row": self.last_row}
        for number, name in enumerate(list(self.loggers)):
            logger = self.loggers[name]
            if name in self.missed:
                self.missed[name] += 1
            elif not (repeated and number > 0 and (not isinstance(logger, KnowsRows) or logger.has_row(self.last_row))):
                self._guarded(name, 1, logger.log_metrics, row, step)
        self.seconds += time.perf_counter() - start

    def send_missing(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Give the loggers that know their rows those that a killed process could not deliver any more.

        Args:
            rows: Those of the record of truth.
        """
        for name, logger in list(self.active().items())[1:]:
            if isinstance(logger, KnowsRows):
                for metrics, step in missing_rows(logger, rows):
                    if name not in self.missed:
                        self._guarded(name, 1, logger.log_metrics, metrics, step)

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
        """Pictures, for the loggers that take them.

        Args:
            key: What they show.
            images: (H, W, 3) RGB each.
            captions: One for each.
            step: The trainer's step.
        """
        self._check_process()
        for name, logger in self.active().items():
            there = not self._turned and isinstance(logger, KnowsImages) and logger.has_images(key, step)
            if isinstance(logger, LogsImages) and not there:
                self._guarded(name, 0, logger.log_image, key, images, step, caption=captions)

    @rank_zero_only
    def save(self) -> None:
        """Called by Lightning after each row."""
        for name, logger in self.active().items():
            self._guarded(name, 0, logger.save)

    def state(self) -> dict[str, Any]:
        """For the checkpoint: what each logger remembers."""
        return {
            name: state
            for name, logger in self.active().items()
            if isinstance(logger, KeepsState) and (state := self._guarded(name, 0, logger.state)) is not None
        }

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close all loggers, and say what they missed."""
        if self._pid != os.getpid():
            return
        for name, logger in self.active().items():
            try:
                logger.finalize(status)
            except Exception as error:  # noqa: BLE001
                _raise_unless_its_own(error)
                self.problems[name] = _one_line(error)
                get_logger(__name__).warning(
                    "a logger ended with an error", logger=name, reason=_one_line(error), remedy=self._remedy(name)
                )
        for name, rows in self.missed.items():
            get_logger(__name__).warning(
                "a logger missed rows",
                logger=name,
                rows=rows,
                of=self.last_row,
                reason=self.problems[name],
                remedy=self._remedy(name),
            )

    def _remedy(self, name: str) -> str:
        return "all rows are in metrics.jsonl" + f"; send them with: ocrsdk logs sync RUN --to {name}" * (
            name != next(iter(self.loggers))
        )

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise LoggerError("rows are logged by the process of the run alone; return values from loader workers instead")

    def _guarded(self, name: str, rows: int, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except Exception as error:  # noqa: BLE001
            _raise_unless_its_own(error)
            self.missed[name] = rows
            self.problems[name] = _one_line(error)
            get_logger(__name__).warning(
                "a logger failed and is switched off; the run goes on", logger=name, reason=_one_line(error)
            )
            return None


def missing_rows(logger: Logger, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[dict[str, Any], int | None]]:
    """(metrics, step) of each row of the record of truth that ``logger`` does not have; all, if it cannot tell."""
    for row in rows:
        if not (isinstance(logger, KnowsRows) and logger.has_row(row["row"])):
            yield {key: value for key, value in row.items() if key not in ("step", "time")}, row["step"]


def _is_same(before: Mapping[str, Any], metrics: Mapping[str, float], step: int | None) -> bool:
    def made(row: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in row.items() if not (key in _ADDED or key.startswith(_MEASURED))}

    return before["step"] == step and made(before) == {key: jsonable(value) for key, value in made(metrics).items()}


def _raise_unless_its_own(error: Exception) -> None:
    """Whatever a logger raises must not cost the run; but torch tells of a dead loader process wherever the main process is."""
    if "DataLoader worker" in str(error):
        raise error


def _one_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
