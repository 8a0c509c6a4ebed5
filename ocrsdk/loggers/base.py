"""The contract of loggers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ocrsdk.plugin_base import Plugin

if TYPE_CHECKING:
    from pathlib import Path

    from pytorch_lightning.loggers import Logger


@dataclass(frozen=True)
class RunInfo:
    """The run that is about to be logged."""

    folder: Path
    """The run folder; it exists."""
    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    """The effective settings, JSON-ready."""
    resumed: bool = False
    """True when the run goes on from a checkpoint: append, never overwrite."""


class LoggerFactory(Plugin, ABC):
    """Builds the Lightning logger of a run. Metrics reach it through ``self.log`` alone: there is one writer."""

    @abstractmethod
    def build(self, run: RunInfo) -> Logger | None:
        """The logger, ready for its first record; None when nothing is to be logged."""
