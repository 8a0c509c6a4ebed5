"""What Lightning wants to know of a logger, besides its rows."""

from __future__ import annotations

from typing import Any

from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.loggers import Logger


class RowLogger(Logger):
    """Base of loggers that take rows: ``log_metrics`` is all that is left to write.

    Args:
        name: The run's name.
        version: What tells runs of one name apart; empty where the run folder does.
    """

    def __init__(self, name: str, version: str = "") -> None:
        super().__init__()
        self._name, self._version = name, version

    @property
    def name(self) -> str:
        """The run's name."""
        return self._name

    @property
    def version(self) -> str:
        """What tells runs of one name apart."""
        return self._version

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: settings come with ``RunInfo``, when the logger is built."""
