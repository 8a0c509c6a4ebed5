"""Damaged values are noticed, counted, set aside and made again."""

from __future__ import annotations

import pytest

from ocrsdk.cache.disk.backend import DiskCache
from ocrsdk.cache.store import Outcome
from ocrsdk.testing.cache import value
from tests.cache.stores import entry, filled, place, row_key, rows, value_file


def test_a_damaged_note_costs_the_note_only(disk: DiskCache):
    samples = filled(disk, 1)
    disk.set(entry(0).origin_digest, b"damaged")
    assert samples.get(entry(0)).outcome is Outcome.HIT
    disk.delete(entry(0).digest)
    assert samples.get(entry(0)).outcome is Outcome.MISS
    assert disk.get(entry(0).origin_digest) is None


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
