"""What leaves a loader process arrives, or raises an error.

Torch's processes pickle a batch in a thread of their queue. What fails there, as shared memory that is full or something that
cannot be pickled, is printed, the batch is lost, and the main process waits for ever. Here all that can fail is done before the
batch is handed to the queue, and a batch that does not fit the shared memory travels through the pipe.
"""

from __future__ import annotations

import functools
import shutil
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ocrsdk.logs import get_logger
from ocrsdk.types import Batch, TargetMaps

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from ocrsdk.types import Sample

SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps it."""


class Sent:
    """A collate function whose result is pickled here, by the main thread of the process, whose errors reach the main process."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: Any) -> _Pickled:
        """Called by torch, with what the dataset gave."""
        batch = self.collate(samples)
        return _Pickled(_InPipe.of(batch) if isinstance(batch, Batch) and not _is_shared(batch) else batch)


class _Pickled:
    """Becomes the object itself where it is unpickled."""

    def __init__(self, content: object) -> None:
        self._bytes = bytes(ForkingPickler.dumps(content))

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        return _unpickled, (self._bytes,)


def _unpickled(content: bytes) -> object:
    found = ForkingPickler.loads(content)
    return found.batch() if isinstance(found, _InPipe) else found


def _is_shared(batch: Batch) -> bool:
    """Move its tensors to shared memory; False if there is no room."""
    try:
        for tensor in (batch.image, *(batch.targets or ())):
            tensor.share_memory_()
    except (RuntimeError, OSError):
        return False
    return True


@dataclass(frozen=True)
class _InPipe:
    """A batch as arrays, which are pickled byte by byte."""

    image: NDArray[np.uint8]
    """(B, H, W, 3)"""
    maps: list[NDArray[Any]]
    """Each (B, 1, H, W); none if the batch has none."""
    samples: list[Sample]

    @classmethod
    def of(cls, batch: Batch) -> _InPipe:
        """The arrays of ``batch``."""
        return cls(batch.image.permute(0, 2, 3, 1).numpy(), [maps.numpy() for maps in batch.targets or ()], batch.samples)

    def batch(self) -> Batch:
        """The batch again."""
        _tell_full()
        maps = TargetMaps(*map(torch.from_numpy, self.maps)) if self.maps else None
        return Batch(torch.from_numpy(self.image).permute(0, 3, 1, 2), self.samples, maps)


@functools.cache
def _tell_full() -> None:
    """Once a process."""
    free = f" ({shutil.disk_usage(SHARED_MEMORY).free / 2**20:.0f} MiB free)" if SHARED_MEMORY.is_dir() else ""
    get_logger(__name__).warning(
        f"batches do not fit the shared memory{free} and are copied through pipes, which is slower; "
        "give more (docker run --shm-size=2g), or load in the main process (--workers 0)"
    )
