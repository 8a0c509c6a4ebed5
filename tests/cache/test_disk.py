"""The diskcache backend against its conformance suite, and what several processes do to it at once."""

from __future__ import annotations

import os
import time

import pytest

from ocrsdk.cache import frame
from ocrsdk.cache.disk.backend import DiskCache
from ocrsdk.cache.keys import EntryKey
from ocrsdk.cache.store import Outcome, SampleCache
from ocrsdk.testing.cache import CacheBackendSuite, key, value
from tests.cache.stores import VERSION, entry, filled, make, place, rows, value_file


class TestConformance(CacheBackendSuite):
    backend = DiskCache


def test_modes_and_places(disk: DiskCache):
    filled(disk, 1)
    folder = place(disk)
    for path in (folder, folder.parent, folder.parents[1], disk.location.folder):
        assert path.stat().st_mode & 0o777 == 0o700
    assert (folder / "cache.db").stat().st_mode & 0o077 == 0
    assert value_file(disk, 0).stat().st_mode & 0o777 == 0o600


def test_a_fork_beside_an_open_cache_loses_nothing(disk: DiskCache):
    """SQLite's table of its own locks is inherited: an open connection of the parent would take the child's log away."""
    disk.set(key("parent"), bytes(1000))
    read, write = os.pipe()
    again, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        ok = all(disk.set(key(i), bytes(1000)) for i in range(20))
        os.write(write, b"x")
        os.read(again, 1)
        ok = ok and all(disk.set(key(i), bytes(1000)) for i in range(20, 40))
        os._exit(0 if ok else 1)
    os.read(read, 1)
    disk.get(key(1))
    disk.close()
    os.write(go, b"x")
    assert os.waitpid(pid, 0)[1] == 0
    fresh = make(disk.location.folder)
    assert sum(fresh.get(key(i)) is not None for i in range(40)) == 40
    fresh.close()


def test_an_entry_that_another_replaces_while_it_is_read_is_not_lost(disk: DiskCache, monkeypatch: pytest.MonkeyPatch):
    samples = filled(disk, 1)
    other = make(disk.location.folder)
    fetch, calls = type(disk.opened().disk).fetch, []

    def replaced_meanwhile(self, *arguments):
        if not calls:
            calls.append(1)
            other.set(entry(0).digest, frame.pack(entry(0).digest, value(0, 50_000)))
        return fetch(self, *arguments)

    monkeypatch.setattr(type(disk.opened().disk), "fetch", replaced_meanwhile)
    assert bytes(samples.get(entry(0)).value) == value(0, 50_000)
    assert samples.counts().lost == 0
    other.close()


def test_quarantine_spares_an_entry_that_is_good_by_now(disk: DiskCache):
    samples = filled(disk, 1)
    disk.quarantine(entry(0).digest)
    assert samples.get(entry(0)).outcome is Outcome.HIT


def test_looking_is_no_use_and_leftovers_are_cleaned(disk: DiskCache):
    filled(disk, 1)
    disk.close()
    old = time.time() - 10 * 86400
    os.utime(place(disk) / "version.json", (old, old))
    for _ in range(2):
        (info,) = disk.versions()
        assert abs(info.used - old) < 1
    disk.prepare()
    assert disk.versions()[0].used > old + 86400
    left = disk.location.folder / "diskcache" / "trash" / f"{VERSION}-{'0' * 32}"
    left.mkdir()
    os.utime(left, (old, old))
    (disk.location.folder / "diskcache" / "trash" / "mine").mkdir()
    assert "cut short" in disk.health()[0].what
    disk.health(fix=True)
    assert not left.exists()
    assert (left.parent / "mine").exists()
    assert disk.health() == []


def test_wrong_counters_are_found_and_repaired(disk: DiskCache):
    filled(disk)
    disk.close()
    rows(disk, "UPDATE Settings SET value = 10000000000000 WHERE key = 'size'")
    assert not disk.set(key(9), b"x")
    assert disk.health(fix=True)[0].fixed
    assert disk.health() == []
    assert disk.set(key(9), b"x")


def test_names_that_are_no_utf8_are_kept(disk: DiskCache):
    samples = SampleCache(disk)
    odd = EntryKey("image x caf\udce9.jpg", {"source": {"path": "caf\udce9.jpg"}})
    assert samples.set(odd, b"x")
    assert samples.get(odd).outcome is Outcome.HIT


def test_a_damaged_note_costs_the_note_only(disk: DiskCache):
    samples = filled(disk, 1)
    disk.set(entry(0).origin_digest, b"damaged")
    assert samples.get(entry(0)).outcome is Outcome.HIT
    disk.delete(entry(0).digest)
    assert samples.get(entry(0)).outcome is Outcome.MISS
    assert disk.get(entry(0).origin_digest) is None
