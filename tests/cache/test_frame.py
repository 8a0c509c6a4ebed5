"""A frame is never taken for what it is not."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest

from ocrsdk.cache import frame
from ocrsdk.cache.disk.backend import DiskCache
from ocrsdk.cache.frame import HEADER_SIZE
from ocrsdk.errors import CacheEntryError
from ocrsdk.testing.cache import key, value


@pytest.mark.slow
def test_ten_thousand_single_bit_flips_give_no_wrong_read(disk: DiskCache):
    """Over value files (headers included) and inline frames alike."""
    sizes = (0, 200, 40_000)
    for i, size in enumerate(sizes):
        disk.set(key(i), frame.pack(key(i), value(i, size)))
    frames = [bytes(disk.get(key(i))) for i in range(3)]
    rng = random.Random(2)
    wrong = 0
    for _ in range(10_000):
        i = rng.randrange(3)
        data = bytearray(frames[i])
        position = rng.randrange(len(data)) if rng.random() < 0.7 else rng.randrange(HEADER_SIZE)
        data[position] ^= 1 << rng.randrange(8)
        try:
            body = frame.unpack(key(i), data)
        except CacheEntryError:
            continue
        # Only the eight reserved bytes may change without being noticed; the body is what was set.
        wrong += bytes(body) != value(i, sizes[i]) or not 56 <= position < 64
    assert wrong == 0
    assert hashlib.sha256(frames[2][HEADER_SIZE:]).digest() == hashlib.sha256(value(2, 40_000)).digest()


def test_f8_too_large_or_no_bytes_is_refused_before_writing(disk: DiskCache):

    from ocrsdk.cache.encoding import encode_arrays

    with pytest.raises(TypeError, match="object"):
        encode_arrays({"a": np.array([{}], dtype=object)})

    with pytest.raises(ValueError, match="more than a cache entry may have"):
        frame.pack(key(1), np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (2**31,), (0,)))
    assert list(disk) == []
