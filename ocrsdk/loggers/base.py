"""The contract of loggers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ocrsdk.logs import without_secrets
from ocrsdk.plugins.base import Plugin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from pytorch_lightning.loggers import Logger

AXES = ("trainer/step", "epoch", "samples", "wall_time", "row")
"""Columns of every row: batches that made an update, epochs from 0, training images seen, seconds of training, and the number of
the row, from 1, under which it stands in the record of truth."""


@dataclass(frozen=True)
class RunInfo:
    """The run that is about to be logged."""

    folder: Path
    """The run folder; it exists."""
    name: str
    """What people call it: the folder's name by default."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The effective settings, JSON-ready, without secrets."""
    resumed: bool = False
    """True when the run goes on from a checkpoint: append, never overwrite."""
    run_id: str = "run"
    """Stays the same when the run is resumed."""
    environment: dict[str, Any] = field(default_factory=dict)
    """Versions, device, git state, cache version, precision and certificate; JSON-ready."""
    state: dict[str, Any] = field(default_factory=dict)
    """What the logger's ``state`` returned when the checkpoint was written; empty for a new run."""
    resumed_step: int = 0
    """Updates made, and skipped, when that checkpoint was written: rows of earlier steps stay."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", without_secrets(self.settings))

    def flat(self) -> dict[str, object]:
        """``data.crop`` -> value, of settings and, under ``environment.``, the environment."""
        return flatten({**self.settings, "environment": self.environment})


def flatten(table: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested tables as dotted names."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return found


@runtime_checkable
class KeepsState(Protocol):
    """A logger that has something to remember in checkpoints."""

    def state(self) -> dict[str, object]:
        """JSON-ready; comes back as ``RunInfo.state``. Everything logged so far must be durable when it returns."""


@runtime_checkable
class KnowsRows(Protocol):
    """A logger that can tell which rows it has, so that a resumed run repeats none and misses none."""

    def has_row(self, row: int) -> bool:
        """Whether the row of this number reached it in an earlier process."""


@runtime_checkable
class LogsImages(Protocol):
    """A logger that takes pictures, under the signature of Lightning's own."""

    def log_image(self, key: str, images: Sequence[NDArray[np.uint8]], step: int | None = None, **kwargs: object) -> None:
        """(H, W, 3) RGB pictures with ``caption``, a list of strings."""


@runtime_checkable
class KnowsImages(Protocol):
    """A logger that can tell which pictures it has, so that a resumed run repeats none."""

    def has_images(self, key: str, step: int) -> bool:
        """Whether an earlier process logged pictures under this key at this step."""


class RowLogger(ABC):
    """Base of loggers that take rows: ``log_metrics`` is all that is left to write.

    It is no Lightning logger, and needs no Lightning to be imported: ``RunLogger`` is the one that a trainer sees. It may also be
    ``KeepsState``, ``KnowsRows``, ``LogsImages`` and ``KnowsImages``. All of its methods are called in one thread, after one
    another.

    Args:
        name: The run's name.
        version: What tells runs of one name apart; empty where the run folder does.
    """

    def __init__(self, name: str, version: str = "") -> None:
        self.name, self.version = name, version

    @abstractmethod
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Keep one row.

        Args:
            metrics: Name -> value, the columns ``AXES`` among them.
            step: The trainer's step; it may be lower than that of the row before: late rows keep their true position.

        Raises:
            LoggerError: It cannot: the logger is switched off, and the run goes on.
        """

    def save(self) -> None:  # noqa: B027 - optional
        """Called after each row: bring to the disk what is worth it."""

    def finalize(self, status: str) -> None:  # noqa: B027 - optional
        """The run has ended: close everything.

        Args:
            status: ``success``, or anything else.

        Raises:
            LoggerError: Rows were lost.
        """


class LoggerFactory(Plugin, ABC):
    """Builds the logger of a run.

    Rows reach it through one writer, ``RunLogger``: they come from one process, in the order in which they were logged, with the
    columns ``AXES``. A logger that raises, or that needs longer than ``logging.patience`` for a row, is switched off and the run
    goes on; ``LoggerError`` with one line is best. Its rows can be sent later: ``ocrsdk logs sync``.

    Args:
        options: The validated ``Options``, if the class has any.
    """

    @abstractmethod
    def build(self, run: RunInfo) -> RowLogger | Logger | None:
        """The logger, ready for its first row; None when nothing is to be logged. A logger of Lightning's will do as well.

        Raises:
            OcrsdkError: It cannot work as asked; the run does not start.
        """

    def send(self, logger: RowLogger | Logger, rows: Sequence[tuple[dict[str, Any], int | None]]) -> int:
        """Give rows of an earlier run to a logger that ``build`` has made, and close it; returns how many there were.

        Args:
            logger: Ready for its first row.
            rows: (metrics, step) each.
        """
        status = "failed"
        try:
            for metrics, step in rows:
                logger.log_metrics(metrics, step)
            status = "success"
        finally:
            logger.finalize(status)
        return len(rows)
