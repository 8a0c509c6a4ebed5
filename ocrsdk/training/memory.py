"""How much memory a run has taken."""

from __future__ import annotations

import resource
import sys

import torch


def peak_memory(device: str) -> int:
    """Highest use so far in bytes: allocated device memory for ``cuda``, else resident memory of this process."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
