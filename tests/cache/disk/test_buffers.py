"""Memory that values are read into is used again, never while somebody holds it."""

from __future__ import annotations

import random

import numpy as np
import pytest

from ocrsdk.cache.disk.backend import DiskCache
from ocrsdk.testing.cache import key, value


def test_values_that_are_held_keep_their_bytes_and_the_others_share_memory(disk: DiskCache):
    """Memory of values is used again, but never while anything refers to it."""
    sizes = (50_000, 3_000_000, 1_200_000, 70_000, 2_000_000, 900_000)
    expected = [value(i, size) for i, size in enumerate(sizes)]
    for i, data in enumerate(expected):
        disk.set(key(i), data)
    rng = random.Random(0)
    held: list[tuple[int, np.ndarray]] = []
    for _ in range(300):
        i = rng.randrange(len(sizes))
        view = disk.get(key(i))
        assert view == expected[i]
        held.append((i, np.frombuffer(view, np.uint8)[10:]))
        del view
        while len(held) > rng.randrange(9):
            held.pop(rng.randrange(len(held)))
        for j, array in held:
            assert array.tobytes() == expected[j][10:]
    held.clear()
    buffers = disk.opened().disk.buffers
    kept = {id(buffer) for buffer in buffers._kept}
    assert 0 < len(kept) <= buffers.most
    for _ in range(20):
        disk.get(key(1))
    assert {id(buffer) for buffer in buffers._kept} == kept
    with pytest.raises(TypeError):
        disk.get(key(1))[0] = 1
