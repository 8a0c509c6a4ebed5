"""Damaged and foreign values in the diskcache backend (F1 to F8 of the fault list)."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from ocrsdk.cache import frame
from ocrsdk.cache.disk.backend import DiskCache
from ocrsdk.cache.store import Outcome
from ocrsdk.errors import CacheEntryError
from ocrsdk.testing.cache import key, value
from tests.cache.stores import entry, filled, place, row_key, rows, value_file


def flip(data: bytearray) -> None:
    data[len(data) // 2] ^= 4


def truncate(data: bytearray) -> None:
    del data[-7:]


def empty(data: bytearray) -> None:
    data.clear()


def zero_tail(data: bytearray) -> None:
    data[-4096:] = bytes(4096)


def append(data: bytearray) -> None:
    data += b"x"


@pytest.mark.parametrize("damage", [flip, truncate, empty, zero_tail, append])
def test_f1_f2_damaged_value_files_are_noticed_set_aside_and_written_again(disk: DiskCache, damage):
    samples = filled(disk)
    path = value_file(disk, 2)
    data = bytearray(path.read_bytes())
    damage(data)
    path.write_bytes(data)
    assert samples.get(entry(2)).outcome is Outcome.CORRUPT
    assert not path.exists()
    assert [p.name for p in (place(disk) / "quarantine").iterdir()] == [f"{entry(2).digest}.val"]
    assert samples.get(entry(2)).outcome is Outcome.MISS
    samples.set(entry(2), value(2, 50_000))
    assert bytes(samples.get(entry(2)).value) == value(2, 50_000)
    assert bytes(samples.get(entry(1)).value) == value(1, 50_000)
    counts = samples.counts()
    assert (counts.corrupt, counts.absent, counts.hits) == (1, 1, 2)
    assert disk.health() == []


def test_f3_a_missing_value_file_is_lost_not_a_miss(disk: DiskCache):
    samples = filled(disk)
    value_file(disk, 1).unlink()
    assert any("value file is gone" in f.what for f in disk.health())
    found = samples.get(entry(1))
    assert found.outcome is Outcome.CORRUPT
    assert "gone" in found.reason
    assert samples.counts().lost == 1


def test_f4_a_row_that_names_the_file_of_another_key(disk: DiskCache):
    samples = filled(disk)
    name = value_file(disk, 0).relative_to(place(disk)).as_posix()
    rows(disk, "UPDATE Cache SET filename = ? WHERE key = ?", name, row_key(1))
    found = samples.get(entry(1))
    assert (found.outcome, found.reason) == (Outcome.CORRUPT, "the value of another key")


class Evil:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_f5_f6_pickles_are_refused_and_never_run(disk: DiskCache, tmp_path: Path):
    import pickle

    samples = filled(disk)
    bomb = pickle.dumps(Evil(tmp_path / "pwned"))
    rows(disk, "UPDATE Cache SET mode = 4, value = ?, filename = NULL WHERE key = ?", bomb, row_key(0))
    value_file(disk, 1).write_bytes(bomb)
    rows(disk, "UPDATE Cache SET mode = 4 WHERE key = ?", row_key(1))
    for column, raw in ((bomb, 0), (entry(7).digest, 1), (row_key(7)[:31], 1)):
        rows(disk, "INSERT INTO Cache(key, raw, mode, value) VALUES (?, ?, 1, ?)", column, raw, b"x")
    with pytest.raises(CacheEntryError, match="refused a value of mode 4"):
        disk.get(entry(0).digest)
    with pytest.raises(CacheEntryError, match="refused a key"):
        list(disk)
    assert samples.get(entry(1)).outcome is Outcome.CORRUPT
    assert any("4 rows that no ocrsdk wrote" in f.what for f in disk.health())
    disk.health(fix=True)
    assert disk.health() == []
    assert len(list(disk)) == 6  # four notes, two values
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["/etc/passwd", "../../../outside.val", "ab/cd/../../../../outside.val"])
def test_f7_files_outside_are_neither_read_nor_deleted(disk: DiskCache, tmp_path: Path, name: str):
    samples = filled(disk)
    outside = tmp_path / "outside.val"
    outside.write_text("mine")
    rows(disk, "UPDATE Cache SET filename = ? WHERE key = ?", name, row_key(0))
    with pytest.raises(CacheEntryError, match="refused a file name"):
        disk.get(entry(0).digest)
    assert samples.get(entry(0)).outcome is Outcome.CORRUPT
    rows(disk, "UPDATE Cache SET filename = ? WHERE key = ?", name, row_key(1))
    assert disk.delete(entry(1).digest)
    rows(disk, "UPDATE Cache SET filename = ? WHERE key = ?", name, row_key(2))
    assert disk.set(entry(2).digest, bytes(50_000))
    rows(disk, "UPDATE Cache SET filename = ? WHERE key = ?", name, row_key(3))
    disk.health(fix=True)
    assert disk.get(entry(3).digest) is None
    assert outside.read_text() == "mine"
    assert Path("/etc/passwd").exists()


def test_f8_too_large_or_no_bytes_is_refused_before_writing(disk: DiskCache):
    import numpy as np

    from ocrsdk.cache.encoding import encode_arrays

    with pytest.raises(TypeError, match="object"):
        encode_arrays({"a": np.array([{}], dtype=object)})

    with pytest.raises(ValueError, match="more than a cache entry may have"):
        frame.pack(key(1), np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (2**31,), (0,)))
    assert list(disk) == []


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
