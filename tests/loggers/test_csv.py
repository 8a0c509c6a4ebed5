"""The logger ``csv`` keeps the contract."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from ocrsdk.loggers.factories import CsvLoggerFactory
from ocrsdk.testing.loggers import LoggerSuite


class TestCsv(LoggerSuite):
    factory = CsvLoggerFactory

    def read(self, folder: Path) -> list[dict[str, Any]]:
        with (folder / "metrics.csv").open(newline="") as file:
            return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
