"""The logger ``jsonl``: one JSON object a line in ``metrics.jsonl`` of the run folder."""

from __future__ import annotations

import json
import math
import time
from typing import IO, TYPE_CHECKING, Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.loggers import Logger

from ocrsdk.errors import RunFolderError
from ocrsdk.loggers.base import LoggerFactory, RunInfo

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "metrics.jsonl"


class JsonlLogger(Logger):
    """Appends ``{"step": ..., "time": ..., metric: value, ...}`` per record and flushes it.

    JSON has no NaN or infinity: they are written as the strings ``"nan"``, ``"inf"`` and ``"-inf"``.

    Args:
        path: The file; records are appended to what is there.
        name: The run's name.
    """

    def __init__(self, path: Path, name: str) -> None:
        super().__init__()
        self.path = path
        self._name = name
        self._file: IO[str] | None = None

    @property
    def name(self) -> str:
        """The run's name."""
        return self._name

    @property
    def version(self) -> str:
        """Empty: the run folder tells runs apart."""
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> IO[str]:
        """The open file."""
        if self._file is None:
            try:
                self._file = self.path.open("a", encoding="utf-8")
            except OSError as error:
                raise RunFolderError(f"{self.path}: cannot be written ({error.strerror})") from error
        return self._file

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the settings stand in the run folder already."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one record."""
        record: dict[str, Any] = {"step": step, "time": round(time.time(), 3)}
        record.update((key, _jsonable(value)) for key, value in metrics.items())
        self.experiment.write(json.dumps(record, ensure_ascii=False) + "\n")
        self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _jsonable(value: float) -> float | str:
    number = float(value)
    return number if math.isfinite(number) else str(number)


class JsonlLoggerFactory(LoggerFactory):
    """The default: durable, readable by anything, no service needed."""

    name = "jsonl"
    summary = f"one JSON object a line in {FILE_NAME} of the run folder (the default)"

    def build(self, run: RunInfo) -> Logger:
        """A logger that appends to the run's file."""
        return JsonlLogger(run.folder / FILE_NAME, run.name)
