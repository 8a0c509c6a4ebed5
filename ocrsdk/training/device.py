"""The device that a run computes on."""

from __future__ import annotations

import resource
import sys

import torch


def device_kind(accelerator: str) -> str:
    """``cpu``, ``cuda`` or ``mps`` for the setting ``trainer.accelerator``."""
    if accelerator != "auto":
        return accelerator
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_name(device: str) -> str:
    """What decides how numbers are computed: the GPU's name, or the CPU's vector instructions."""
    if device == "cuda":
        return f"cuda {torch.cuda.get_device_name()}"
    return f"cpu {torch.backends.cpu.get_cpu_capability()}" if device == "cpu" else device


def peak_memory(device: str) -> int:
    """Highest use so far in bytes: allocated device memory for ``cuda``, else resident memory of this process."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
