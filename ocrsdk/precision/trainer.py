"""``TrainerPrecision``: a precision strategy for any LightningModule, as what a ``Trainer`` takes."""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any, Literal

from pytorch_lightning import Callback

from ocrsdk.errors import PluginError
from ocrsdk.plugins.manager import call
from ocrsdk.precision.device import device_kind, tf32_allowed
from ocrsdk.precision.guard import PrecisionGuard, PrecisionMonitor
from ocrsdk.precision.make import make_strategy, trainer_kwargs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

Framework = Literal["pytorch_lightning", "lightning"]


class TrainerPrecision:
    """A registered strategy, with the guard and the monitor as callbacks.

    ::

        precision = TrainerPrecision("fp16-safe")
        precision.prepare(module)
        trainer = Trainer(accelerator=precision.device, callbacks=[*precision.callbacks, ...], **precision.trainer_kwargs)

    Losses belong in fp32, computed from logits and outside of autocast; no strategy can do that for a foreign module.

    Args:
        strategy: A registered precision strategy that does not choose among others.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        options: Options of the strategy.
        framework: Whose trainer it is for: ``pytorch_lightning.Trainer``, or ``lightning.Trainer`` (``lightning.pytorch``).

    Raises:
        PluginError: There is no such strategy, or the device cannot run it.
        SettingsError: An option or the device is wrong.
    """

    def __init__(
        self,
        strategy: str = "fp32",
        *,
        device: str = "auto",
        options: Mapping[str, object] | None = None,
        framework: Framework = "pytorch_lightning",
    ) -> None:
        self.device = device_kind(device)
        self.strategy = make_strategy(strategy, options or {}, self.device)
        if self.strategy.delegates:
            raise PluginError(
                f"{strategy!r} stands for a choice by certificates, which ocrsdk.Pipeline makes; name a strategy itself"
            )
        kwargs = trainer_kwargs(self.strategy, self.device)
        if framework == "lightning":
            kwargs = {key: [_adopted(plugin) for plugin in value] if key == "plugins" else value for key, value in kwargs.items()}
        self.trainer_kwargs: dict[str, Any] = kwargs
        """``precision`` or ``plugins`` for the trainer; add plug-ins of your own to the list."""
        self.guard = PrecisionGuard()
        """Counts skipped updates: ``guard.skipped_steps``."""
        self.callbacks: list[Callback] = [self.guard, PrecisionMonitor(self.guard), Tf32(self.strategy.tf32)]
        """The first callbacks of the trainer, in this order."""

    def prepare(self, module: nn.Module) -> None:
        """Change the module as the strategy asks for, before it is trained: modules pinned to fp32, weights of another dtype.

        Raises:
            SettingsError: An option does not fit the module.
        """
        call(self.strategy.prepare, module)


class Tf32(Callback):
    """Whether a GPU may use TF32 while the trainer fits; afterwards it is as before.

    Args:
        allowed: Whether it may.
    """

    def __init__(self, allowed: bool) -> None:
        self.allowed = allowed
        self._inside = contextlib.ExitStack()

    def setup(self, trainer: object, pl_module: object, stage: str) -> None:
        """Allow or forbid TF32, as training, validation or prediction begins."""
        self._inside.enter_context(tf32_allowed(self.allowed))

    def teardown(self, trainer: object, pl_module: object, stage: str) -> None:
        """Restore the setting of before."""
        self._inside.close()

    def on_exception(self, trainer: object, pl_module: object, exception: BaseException) -> None:
        """Restore the setting of before."""
        self._inside.close()


def _adopted(plugin: object) -> object:
    """The plug-in, of a class that is also one of ``lightning.pytorch``: the two frameworks do not know each other's classes.

    Raises:
        PluginError: ``lightning`` is not installed.
    """
    try:
        base = importlib.import_module("lightning.pytorch.plugins.precision").Precision
    except ImportError:
        raise PluginError("framework='lightning' needs the package lightning. Try: pip install lightning") from None
    if not isinstance(plugin, base):
        cls = type(plugin)
        plugin.__class__ = type(cls.__name__, (cls, base), {"__module__": cls.__module__})
    return plugin
