"""The logger ``none`` keeps the contract."""

from __future__ import annotations

from ocrsdk.loggers.factories import NullLoggerFactory
from ocrsdk.testing.loggers import LoggerSuite


class TestNull(LoggerSuite):
    factory = NullLoggerFactory
