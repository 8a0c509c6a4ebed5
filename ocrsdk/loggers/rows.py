"""Rows of ``metrics.jsonl``, the record of truth of a run."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from ocrsdk.errors import RunFolderError

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "metrics.jsonl"
RECORD = "jsonl"
"""The logger that every run has; all others can be filled from it later."""


def jsonable(value: Any) -> float | int | str:
    """The value as JSON holds it."""
    number = value if type(value) in (float, int) else float(value)
    return number if math.isfinite(number) else str(float(number))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``metrics.jsonl``, with NaN and infinity as floats; lines that a crash cut short are skipped.

    Raises:
        RunFolderError: There is no such file.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read ({error.strerror})") from error
    rows = [row for line in lines if (row := parse_row(line)) is not None]
    return [{key: float(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows]


def parse_row(line: bytes) -> dict[str, Any] | None:
    """One line; None if a crash cut it short."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
