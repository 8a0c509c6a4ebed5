"""Modules kept in single precision inside an autocast region."""

from __future__ import annotations

from contextlib import ExitStack
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ocrsdk.errors import SettingsError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence


def pin_to_fp32(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Run the modules whose names match in fp32: their inputs are converted, and autocast is off inside of them.

    Args:
        model: Its parameters are fp32 already.
        patterns: Shell patterns for names as ``named_modules`` gives them: ``neck``, ``backbone.stage?.*``.

    Returns:
        The names of the modules that were pinned.

    Raises:
        SettingsError: A pattern matches nothing.
    """
    names = [name for name, _ in model.named_modules() if name]
    pinned = []
    for pattern in patterns:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            top = [name for name, _ in model.named_children()]
            raise SettingsError(
                f"precision.options.fp32_modules: {pattern!r} matches no module of the model.{nearest(pattern, names)} "
                f"The largest are: {', '.join(top)}"
            )
        pinned += [name for name in found if name not in pinned]
    for name in pinned:
        _Pin(model.get_submodule(name))
    return pinned


class _Pin:
    """Leaves every autocast region, whatever device it is for, while the module runs."""

    def __init__(self, module: nn.Module) -> None:
        self._left: list[ExitStack] = []
        module.register_forward_pre_hook(self._enter, with_kwargs=True)
        module.register_forward_hook(self._exit, always_call=True)

    def _enter(self, _module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> tuple[object, dict[str, object]]:
        left = ExitStack()
        for device in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(device):
                left.enter_context(torch.autocast(device, enabled=False))
        self._left.append(left)
        return tuple(_float(value) for value in args), {key: _float(value) for key, value in kwargs.items()}

    def _exit(self, _module: nn.Module, _args: object, _output: object) -> None:
        if self._left:
            self._left.pop().close()


def _float(value: object) -> object:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.float()
    if isinstance(value, list | tuple):
        return type(value)(_float(item) for item in value)
    return value
