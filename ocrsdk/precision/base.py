"""The contract of precision strategies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from ocrsdk.plugin_base import Plugin


class PrecisionStrategy(Plugin, ABC):
    """Decides in which number format a model is trained, and refuses devices where that would not hold."""

    guards: ClassVar[str] = ""
    """One line: what cannot go wrong unnoticed under this strategy."""

    @abstractmethod
    def check(self, device: str) -> None:
        """Refuse a device that cannot run this strategy as it is meant.

        Args:
            device: ``cpu``, ``cuda`` or ``mps``.

        Raises:
            PluginError: With the reason and the strategies that would work.
        """

    @abstractmethod
    def trainer_kwargs(self) -> dict[str, Any]:
        """Keyword arguments for Lightning's ``Trainer``: ``precision`` or ``plugins``, nothing else."""
