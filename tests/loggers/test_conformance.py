"""The built-in loggers keep the contract."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, ClassVar

from ocrsdk.loggers.factories import CsvLoggerFactory, JsonlLoggerFactory, NullLoggerFactory, WandbLoggerFactory
from ocrsdk.loggers.wandb_file import read_history
from ocrsdk.testing.loggers import LoggerSuite


class TestJsonl(LoggerSuite):
    factory = JsonlLoggerFactory

    def read(self, folder: Path) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [{**row, "trainer/step": row["step"]} for row in rows]


class TestCsv(LoggerSuite):
    factory = CsvLoggerFactory

    def read(self, folder: Path) -> list[dict[str, Any]]:
        with (folder / "metrics.csv").open(newline="") as file:
            return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


class TestWandb(LoggerSuite):
    factory = WandbLoggerFactory
    options: ClassVar = {"mode": "offline"}

    def read(self, folder: Path) -> list[dict[str, Any]]:
        return [row for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")) for row in read_history(path)]


class TestNull(LoggerSuite):
    factory = NullLoggerFactory
