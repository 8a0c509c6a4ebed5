"""The logger ``jsonl``: one JSON object a line in ``metrics.jsonl`` of the run folder; the record of truth."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from ocrsdk.errors import LoggerError, RunFolderError
from ocrsdk.loggers.base import RowLogger
from ocrsdk.loggers.rows import jsonable, parse_row

if TYPE_CHECKING:
    from pathlib import Path

SUPERSEDED = "metrics.superseded.jsonl"
"""Rows that were logged after the checkpoint from which a run went on."""


class JsonlLogger(RowLogger):
    """Appends ``{"step": ..., "time": ..., metric: value, ...}`` per row; each is with the system when the call returns.

    JSON has no NaN or infinity: they are written as strings, ``"nan"``, ``"inf"`` and ``"-inf"``. A row that cannot be written, on
    a full disk for instance, is kept and tried again with the next one.

    Args:
        path: The file; rows are appended to what is there.
        name: The run's name.
        keep: Rows to go on from; later ones are moved to ``metrics.superseded.jsonl``. None keeps all.
        before: Of the later ones, those of steps below this stay as well: Lightning writes the row of an update after a checkpoint
            that holds the update already.
    """

    def __init__(self, path: Path, name: str, keep: int | None = None, before: int = 0) -> None:
        super().__init__(name)
        self.path = path
        self._pending: list[bytes] = []
        self._warned = False
        self.superseded: list[dict[str, Any]] = []
        """Rows that were moved aside, now or at an earlier resume, and stand after those that are left; by number."""
        self.rows = 0
        """Rows in the file."""
        try:
            self._repair()
            if keep is not None:
                self._rewind(keep, before)
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._size = os.fstat(self._fd).st_size
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be written ({error.strerror})") from error

    def _repair(self) -> None:
        """Count rows; the part of a line that a crash left is completed, so that it stays apart from the next row."""
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        if content and not content.endswith(b"\n"):
            with self.path.open("ab") as file:
                file.write(b"\n")
        self.rows = len(content.splitlines())

    def _rewind(self, keep: int, before: int) -> None:
        aside = self.path.with_name(SUPERSEDED)
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        while keep < len(lines) and (row := parse_row(lines[keep])) is not None and (row["step"] or 0) < before:
            keep += 1
        if self.rows > keep:
            with aside.open("ab") as file:
                file.write(b"".join(lines[keep:]))
                file.flush()
                os.fsync(file.fileno())
            partial = self.path.with_name(f".{self.path.name}.partial")
            with partial.open("wb") as file:
                file.write(b"".join(lines[:keep]))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
            self.rows = keep
        if aside.exists():
            last = self.last_row
            moved = {row["row"]: row for line in aside.read_bytes().splitlines() if (row := parse_row(line)) is not None}
            self.superseded = [moved[number] for number in sorted(moved) if number > last]

    @property
    def last_row(self) -> int:
        """Number of the last row in the file; 0 if there is none."""
        lines = self.path.read_bytes().splitlines() if self.path.exists() else []
        return next((int(row["row"]) for line in reversed(lines) if (row := parse_row(line)) is not None), 0)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one row."""
        record: dict[str, Any] = {"step": step, "time": round(time.time(), 3)}
        for key, value in metrics.items():
            record[key] = jsonable(value)
        self._pending.append(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        self._write()

    def _write(self) -> bool:
        data = b"".join(self._pending)
        try:
            written = os.write(self._fd, data) if data else 0
            if written < len(data):  # a disk that is nearly full takes a part
                os.ftruncate(self._fd, self._size)
                raise OSError(28, "No space left on device")
        except OSError as error:
            if not self._warned:
                self._warned = True
                from ocrsdk.logs import get_logger

                get_logger(__name__).warning(
                    "rows cannot be written; they are kept and tried again", file=str(self.path), reason=error.strerror
                )
            return False
        self._size += written
        self.rows += len(self._pending)
        self._pending.clear()
        return True

    def state(self) -> dict[str, object]:
        """The number of rows that are durable when this returns."""
        self._write()
        with contextlib.suppress(OSError):  # rows of a disk that fails now are told of at the end
            os.fsync(self._fd)
        return {"rows": self.rows}

    def finalize(self, status: str) -> None:
        """Make everything durable and close the file.

        Raises:
            LoggerError: Rows cannot be written.
        """
        if self._fd < 0:
            return
        lost = 0 if self._write() else len(self._pending)
        with contextlib.suppress(OSError):
            os.fsync(self._fd)
        os.close(self._fd)
        self._fd = -1
        if lost:
            raise LoggerError(f"{self.path}: {lost} rows could not be written")
