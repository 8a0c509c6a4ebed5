"""The built-in loggers as plug-ins: names and options. What they build, and Lightning with it, is imported when a run is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ocrsdk.loggers.base import LoggerFactory, RunInfo
from ocrsdk.loggers.rows import FILE_NAME
from ocrsdk.settings import options

if TYPE_CHECKING:
    from ocrsdk.loggers.csv import CsvLogger
    from ocrsdk.loggers.jsonl import JsonlLogger
    from ocrsdk.loggers.wandb import WandbLogger

CSV_FILE = "metrics.csv"


class JsonlLoggerFactory(LoggerFactory):
    """The default: durable, readable by anything, no service needed."""

    name = "jsonl"
    summary = f"one JSON object a line in {FILE_NAME} of the run folder (always on, unless the only logger is none)"

    def build(self, run: RunInfo) -> JsonlLogger:
        """A logger that goes on after the rows of the checkpoint."""
        from ocrsdk.loggers.jsonl import JsonlLogger

        return JsonlLogger(run.folder / FILE_NAME, run.name, run.state.get("rows") if run.resumed else None, run.resumed_step)


class WandbLoggerFactory(LoggerFactory):
    """Weights & Biases, online with a key, else offline."""

    name = "wandb"
    summary = "Weights & Biases; offline where there is no key"

    class Options(options.Options):
        """Options of ``wandb``; they win over ``WANDB_*`` variables. The API key is the client's: ``wandb login``."""

        mode: Literal["auto", "online", "offline", "disabled"] = "auto"
        """``auto``: ``WANDB_MODE`` if set; else online if there is a key and the server answers, offline otherwise."""
        project: str = "ocrsdk"
        """The project of W&B that the run appears in."""
        entity: str | None = None
        """User or team."""
        name: str | None = None
        """Name of the run; that of the run folder by default."""
        id: str | None = None
        """Id of the run; that of the run folder by default, and kept by a resume."""
        tags: tuple[str, ...] = ()
        """Tags of the run in W&B."""

    def build(self, run: RunInfo) -> WandbLogger:
        """Make or resume the W&B run."""
        from ocrsdk.loggers.wandb import start

        return start(self.options, run)


class CsvLoggerFactory(LoggerFactory):
    """Keeps rows as a table for spreadsheets."""

    name = "csv"
    summary = f"a table in {CSV_FILE} of the run folder"

    def build(self, run: RunInfo) -> CsvLogger:
        """A logger that goes on in the run's file."""
        from ocrsdk.loggers.csv import CsvLogger

        return CsvLogger(run.folder / CSV_FILE, run.name)


class NullLoggerFactory(LoggerFactory):
    """Logs nothing."""

    name = "none"
    summary = "no log"

    def build(self, run: RunInfo) -> None:
        """There is no logger to make."""
        return
