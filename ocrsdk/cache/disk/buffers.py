"""Memory that large values are read into, again and again."""

from __future__ import annotations

import mmap
import sys
from typing import Any

_STEP = 2**20


class Buffers:
    """Memory for values that are read one after another: megabytes fresh from the system cost more in page faults than the read.

    For one thread at a time: whoever takes from it holds a lock.

    Args:
        most: At most so many are kept; one that is too small gives way to a larger one.
    """

    def __init__(self, most: int = 4) -> None:
        self.most = most
        self._kept: list[mmap.mmap] = []

    def take(self, size: int) -> memoryview:
        """Memory for ``size`` bytes, which is used again when nothing refers to it any more; what it holds is left over."""
        free = [i for i in range(len(self._kept)) if _references(self._kept, i) == _REFERENCES_WHEN_FREE]
        fitting = [i for i in free if len(self._kept[i]) >= size]
        if fitting:
            buffer = self._kept.pop(fitting[-1])
        else:
            buffer = _whole_pages(max(size, 1))
            if len(self._kept) == self.most and free:
                del self._kept[free[0]]
        if len(self._kept) < self.most:
            self._kept.append(buffer)  # the last one used is the first one taken: its memory is warm
        return memoryview(buffer)[:size]


def _whole_pages(size: int) -> mmap.mmap:
    """Memory that begins with a page, as files in memory do.

    Copied to 16 bytes beyond, where allocators like to put large blocks, a value took 40 us longer to read and check (2.4 MB on an
    AMD EPYC).
    """
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}  # not shared by forks
    return mmap.mmap(-1, -(-size // _STEP) * _STEP, **private)


def _references(buffers: list[Any], i: int) -> int:
    return sys.getrefcount(buffers[i])


_REFERENCES_WHEN_FREE = _references([object()], 0)
