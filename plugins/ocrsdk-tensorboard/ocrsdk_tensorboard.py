"""The logger ``tensorboard``: event files in the run folder."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pydantic import Field
from torch.utils.tensorboard import SummaryWriter

import ocrsdk
from ocrsdk import hookimpl
from ocrsdk.errors import LoggerError
from ocrsdk.loggers.base import LoggerFactory, RowLogger, RunInfo

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


class TensorBoardLogger(RowLogger):
    """Scalars and pictures; each row under a time of its own, so that rows can be told apart.

    Args:
        folder: Where event files go; a resumed run adds one.
        name: The run's name.
        flush_seconds: Longest time that a row waits before it is on the disk.
    """

    def __init__(self, folder: Path, name: str, flush_seconds: int) -> None:
        super().__init__(name)
        self._present = _rows(folder)
        self._writer = SummaryWriter(str(folder), flush_secs=max(1, flush_seconds))
        self._at_once = flush_seconds == 0
        self._time = 0.0

    @property
    def experiment(self) -> SummaryWriter:
        """The writer, for whatever this class does not do."""
        return self._writer

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """One event for each metric, all at one time."""
        self._time = max(time.time(), self._time + 1e-4)
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, step, walltime=self._time, new_style=True, double_precision=True)
        if self._at_once:
            self._writer.flush()

    def has_row(self, row: int) -> bool:
        """Whether the row stood in the event files when the run was resumed."""
        return row in self._present

    def log_image(self, key: str, images: Sequence[NDArray[np.uint8]], step: int | None = None, **kwargs: Any) -> None:
        """Pictures, tagged with their captions."""
        captions = kwargs.get("caption") or [str(i) for i in range(len(images))]
        for caption, image in zip(captions, images, strict=True):
            self._writer.add_image(f"{key}/{caption}", image, step, dataformats="HWC")

    def state(self) -> dict[str, Any]:
        """Nothing to remember; everything is on the disk when this returns."""
        self._writer.flush()
        return {}

    def finalize(self, status: str) -> None:
        """Close the file."""
        self._writer.close()


class TensorBoardLoggerFactory(LoggerFactory):
    """Event files that ``tensorboard --logdir runs`` shows."""

    name = "tensorboard"
    summary = "event files in the run folder, for tensorboard --logdir runs"

    class Options(ocrsdk.Options):
        """Options of ``tensorboard``."""

        flush_seconds: int = Field(0, ge=0)
        """Longest time that a row waits before it is on the disk; 0 for none."""

    def build(self, run: RunInfo) -> RowLogger:
        """A logger that adds an event file to the run's."""
        folder = run.folder / "tensorboard"
        try:
            logger = TensorBoardLogger(folder, run.name, self.options.flush_seconds)
        except OSError as error:
            raise LoggerError(f"{folder}: cannot be written ({error.strerror})") from error
        if not run.resumed:
            lines = [f"    {key}: {value}" for key, value in sorted(run.flat().items())]
            logger.experiment.add_text("settings", "\n".join(lines), 0)
        return logger


def _rows(folder: Path) -> set[int]:
    """Numbers of the rows in the event files that are there."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    found = set()
    for path in sorted(folder.glob("events.*")) if folder.is_dir() else ():
        for event in EventFileLoader(str(path)).Load():
            found.update(int(make_ndarray(value.tensor).item()) for value in event.summary.value if value.tag == "row")
    return found


@hookimpl
def ocrsdk_register_loggers() -> list[type[LoggerFactory]]:
    """TensorBoard."""
    return [TensorBoardLoggerFactory]
