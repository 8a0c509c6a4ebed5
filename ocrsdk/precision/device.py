"""The device that a model computes on, and whether it may use TF32."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from ocrsdk.errors import SettingsError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator


def device_kind(accelerator: str) -> str:
    """``cpu``, ``cuda`` or ``mps``; ``auto`` is the fastest of them that is here.

    Raises:
        SettingsError: There is no such device, or PyTorch finds none here.
    """
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto":
        return next(device for device, found in here.items() if found)
    if accelerator not in here:
        raise SettingsError(f"no device {accelerator!r}. There are: auto, {', '.join(here)}.{nearest(accelerator, here)}")
    if not here[accelerator]:
        others = ", ".join(device for device, found in here.items() if found)
        raise SettingsError(f"PyTorch {torch.__version__} finds no {accelerator} device on this machine; there are: {others}")
    return accelerator


def device_name(device: str) -> str:
    """What decides how numbers are computed: the GPU's name, or the CPU's vector instructions."""
    if device == "cuda":
        return f"cuda {torch.cuda.get_device_name()}"
    return f"cpu {torch.backends.cpu.get_cpu_capability()}" if device == "cpu" else device


@contextlib.contextmanager
def tf32_allowed(allowed: bool) -> Iterator[None]:
    """Inside, a GPU may use TF32 for convolutions and matrix products of fp32 numbers, or not.

    PyTorch's default is TF32 for the former and fp32 for the latter.
    """
    flags: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [flag.allow_tf32 for flag in flags]
    try:
        for flag in flags:
            flag.allow_tf32 = allowed
        yield
    finally:
        for flag, was in zip(flags, before, strict=True):
            flag.allow_tf32 = was
