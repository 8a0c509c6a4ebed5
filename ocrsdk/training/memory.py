"""Memory of a training process: how it is kept, and how much it has been at most."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from pathlib import Path

import torch

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
    """Highest use in bytes since ``reset_peak_memory``: allocated on the device for ``cuda``, else resident in this process."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    if sys.platform == "linux":  # getrusage would tell the peak of the process that started this one, if that was higher
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak_memory(device: str) -> None:
    """From now on, ``peak_memory`` is that of what follows; where the system cannot do so, it stays that of the whole process."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # see proc(5)
