"""The device that a run computes on."""

from __future__ import annotations

import ctypes
import resource
import sys

import torch

from ocrsdk.errors import SettingsError


def device_kind(accelerator: str) -> str:
    """``cpu``, ``cuda`` or ``mps`` for the setting ``trainer.accelerator``.

    Raises:
        SettingsError: PyTorch finds no such device here.
    """
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto":
        return next(device for device, found in here.items() if found)
    if not here[accelerator]:
        others = ", ".join(device for device, found in here.items() if found)
        raise SettingsError(f"PyTorch {torch.__version__} finds no {accelerator} device on this machine; there are: {others}")
    return accelerator


def device_name(device: str) -> str:
    """What decides how numbers are computed: the GPU's name, or the CPU's vector instructions."""
    if device == "cuda":
        return f"cuda {torch.cuda.get_device_name()}"
    return f"cpu {torch.backends.cpu.get_cpu_capability()}" if device == "cpu" else device


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """From now on this process keeps the memory that it frees, and takes the next block from it.

    glibc gives large blocks back to the system, so that every step of a training run on a CPU gets its activations anew: page by
    page, and each page zeroed. See ``mallopt(3)``. Other allocators are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, -1)
        mallopt(_M_MMAP_MAX, 0)


def peak_memory(device: str) -> int:
    """Highest use so far in bytes: allocated device memory for ``cuda``, else resident memory of this process."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
