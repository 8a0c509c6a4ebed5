"""The contract of precision strategies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from ocrsdk.errors import PluginError
from ocrsdk.plugins.base import Plugin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn


class EmulatedError(PluginError):
    """The hardware does not compute in the strategy's format: it would be emulated, right but slow."""


@runtime_checkable
class SkipsUpdates(Protocol):
    """A Lightning precision plug-in that skips an update whose gradients are not finite.

    Training then restores running statistics, and neither the step count nor the learning-rate schedule moves on.
    """

    last_skipped: bool
    """Whether the last update was skipped."""
    max_skips: int
    """After so many in a row the run stops."""


@dataclass(frozen=True)
class Certified:
    """A strategy that has passed its accuracy check for the model, data and device at hand."""

    strategy: PrecisionStrategy
    """With its options."""
    speedup: float
    """Images a second, relative to fp32, seen in the check."""


class PrecisionStrategy(Plugin, ABC):
    """Decides in which number format a model is trained, and refuses devices where that would not hold.

    Without a Lightning plug-in that ``SkipsUpdates``, a loss or gradient that is not finite stops the run before the weights
    change.

    Args:
        options: The validated ``Options``, if the class has any.
    """

    guards: ClassVar[str] = ""
    """One line: what cannot go wrong unnoticed under this strategy."""
    delegates: ClassVar[bool] = False
    """True for a strategy that stands for a choice among others; see ``choose``."""
    reference: ClassVar[bool] = False
    """True for a format that others are compared with; all others are "not validated" until a check has passed."""
    accumulate: ClassVar[int] = 1
    """Batches summed up in an update, unless ``trainer.accumulate`` is set."""
    deviation: ClassVar[float] = 0.0
    """What it declares: how far losses and gradients of one step may lie from fp32, relative to their size. Zero says that they are
    the same numbers, bit for bit; the conformance suite measures it."""

    @property
    def tf32(self) -> bool:
        """Whether a GPU may use TF32 where numbers are fp32: only where a strategy says so."""
        return False

    @abstractmethod
    def check(self, device: str) -> None:
        """Refuse a device that cannot run this strategy as it is meant.

        Args:
            device: ``cpu``, ``cuda`` or ``mps``.

        Raises:
            PluginError: With the reason and the strategies that would work.
        """

    @abstractmethod
    def trainer_kwargs(self, device: str) -> dict[str, Any]:
        """Keyword arguments for Lightning's ``Trainer``: ``precision`` or ``plugins``, nothing else.

        Args:
            device: One that ``check`` has accepted.
        """

    def prepare(self, model: nn.Module) -> None:
        """Change the model before it is trained; names and shapes of its parameters must stay as they are.

        Raises:
            SettingsError: An option does not fit the model.
        """

    def choose(self, certified: Sequence[Certified]) -> tuple[PrecisionStrategy, str]:
        """The strategy to train with, and why: this one, unless it stands for a choice.

        Args:
            certified: Strategies that hold a valid certificate for this model, data and device.
        """
        return self, ""
