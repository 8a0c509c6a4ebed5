"""The logger ``csv``: a table in ``metrics.csv`` of the run folder."""

from __future__ import annotations

import csv
import os
from typing import TYPE_CHECKING

from ocrsdk.errors import RunFolderError
from ocrsdk.loggers.base import RowLogger

if TYPE_CHECKING:
    from pathlib import Path


def _number(row: dict[str, str]) -> int | None:
    """The row's number; None for a line that a crash cut short."""
    try:
        return int(row["row"])
    except (KeyError, TypeError, ValueError):
        return None


class CsvLogger(RowLogger):
    """One line a row, one column a metric; the file is rewritten when a new metric appears.

    Args:
        path: The file; a resumed run goes on in it.
        name: The run's name.
    """

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(name)
        self.path = path
        self._columns: list[str] = []
        self._rows: set[int] = set()
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                self._rows = {number for row in reader if (number := _number(row)) is not None}
                self._columns = list(reader.fieldnames or ())
            if not path.read_bytes().endswith(b"\n"):  # a crash cut the last line short: keep it apart
                with path.open("a", encoding="utf-8") as file:
                    file.write("\n")

    def has_row(self, row: int) -> bool:
        """Whether it stood in the file when the run was resumed."""
        return row in self._rows

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line."""
        row = {"step": step, **metrics}
        new = [key for key in row if key not in self._columns]
        try:
            if new:
                self._widen(new)
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerow(row)
        except OSError as error:
            raise RunFolderError(f"{self.path}: cannot be written ({error.strerror})") from error

    def _widen(self, new: list[str]) -> None:
        before: list[dict[str, str]] = []
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                before = list(csv.DictReader(file))
        columns = [*self._columns, *new]
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({key: value for key, value in row.items() if key is not None} for row in before)
        partial.replace(self.path)
        self._columns = columns

    def finalize(self, status: str) -> None:
        """Nothing is open."""
