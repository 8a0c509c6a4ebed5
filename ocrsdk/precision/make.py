"""From the name of a strategy to an instance, and to what it gives to Lightning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ocrsdk.errors import PluginError
from ocrsdk.plugins.manager import call, installed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocrsdk.precision.base import PrecisionStrategy

_LIGHTNINGS_NAMES = {
    "32-true": "fp32",
    "bf16-mixed": "bf16",
    "16-mixed": "fp16-safe, which is fp16 on a CPU as well; Lightning would train in bf16 there, and for that there is bf16",
}


def make_strategy(name: str, options: Mapping[str, object], device: str | None = None) -> PrecisionStrategy:
    """The strategy called ``name``.

    Args:
        name: A registered precision strategy.
        options: Its options.
        device: ``cpu``, ``cuda`` or ``mps``: refuse a strategy that does not run there. None if that is still unknown.

    Raises:
        PluginError: There is none, or the device cannot run it.
        SettingsError: An option is wrong.
    """
    try:
        strategy = cast("PrecisionStrategy", installed().make("precision strategy", name, options, "precision.options"))
    except PluginError as error:
        if name not in _LIGHTNINGS_NAMES:
            raise
        raise PluginError(f"{error} What Lightning calls {name} is called {_LIGHTNINGS_NAMES[name]}") from None
    if device is not None:
        call(strategy.check, device)
    return strategy


def trainer_kwargs(strategy: PrecisionStrategy, device: str) -> dict[str, Any]:
    """What the strategy gives to Lightning's trainer, checked against the contract.

    Raises:
        PluginError: It is something else.
    """
    kwargs = call(strategy.trainer_kwargs, device)
    if not isinstance(kwargs, dict) or not kwargs.keys() <= {"precision", "plugins"}:
        raise PluginError(
            f"the precision strategy {strategy.name!r} of "
            f"{installed().distribution('precision strategy', strategy.name)} failed: trainer_kwargs returned {kwargs!r}, expected "
            "a dict with precision or plugins alone. Report it to its authors; to do without it choose another"
        )
    if kwargs.get("precision") in ("16-mixed", 16, "16") and device != "cuda":
        raise PluginError(
            f"the precision strategy {strategy.name!r} asks Lightning for 16-mixed, which on {device} would be bf16 without a loss "
            "scale. Use: --precision fp16-safe, which is fp16 here too, or --precision bf16"
        )
    return kwargs
