"""The logger ``none``."""

from __future__ import annotations

from ocrsdk.loggers.base import LoggerFactory, RunInfo


class NullLoggerFactory(LoggerFactory):
    """Logs nothing."""

    name = "none"
    summary = "no log"

    def build(self, run: RunInfo) -> None:
        """None."""
        return
