"""Damaged, foreign and shared indices of the diskcache backend (F9 to F14 of the fault list)."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from ocrsdk.cache import frame
from ocrsdk.cache.base import Severity
from ocrsdk.cache.disk.backend import DiskCache
from ocrsdk.cache.store import SampleCache
from ocrsdk.errors import CacheError, CacheStoreError
from ocrsdk.testing.cache import key, value
from tests.cache.stores import VERSION, entry, filled, make, place, rows


def zero_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(100))


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [zero_header, garbage, cut])
def test_f9_a_damaged_index_is_named_with_its_remedy_and_cleared(disk: DiskCache, damage):
    filled(disk, 40)
    disk.close()
    damage(place(disk) / "cache.db")
    again = make(disk.location.folder)
    findings = again.health()
    assert findings[0].severity is Severity.ERROR
    assert "clear" in findings[0].remedy
    samples = SampleCache(again)
    outcomes = [samples.get(entry(i)) for i in range(40)]
    for i, found in enumerate(outcomes):
        assert found.value is None or bytes(found.value) == value(i, 50_000)
    again.close()
    again.remove_version(VERSION)
    again.prepare()
    assert again.health() == []


def test_f10_a_deleted_index_is_not_a_new_cache(disk: DiskCache):
    filled(disk)
    disk.close()
    for path in place(disk).glob("cache.db*"):
        path.unlink()
    with pytest.raises(CacheStoreError, match="index cache.db is missing, 4 value files are left.*clear --rebuild"):
        make(disk.location.folder).prepare()
    assert make(disk.location.folder).health()[0].severity is Severity.ERROR


@pytest.mark.slow
def test_f11_flips_in_the_index_never_give_wrong_values(tmp_path: Path):
    cache = make(tmp_path / "c", inline_bytes=2000)
    cache.prepare()
    for i in range(60):
        cache.set(key(i), Framed.of(i))
    cache.close()
    original = (place(cache) / "cache.db").read_bytes()
    rng = random.Random(0)
    reads = wrong = failed = 0
    for _ in range(150):
        damaged = bytearray(original)
        for _ in range(20):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        for path in place(cache).glob("cache.db*"):
            path.unlink()
        (place(cache) / "cache.db").write_bytes(damaged)
        again = make(tmp_path / "c", inline_bytes=2000)
        for i in range(60):
            reads += 1
            try:
                found = again.get(key(i))
                if found is not None and Framed.body(i, found) != value(i, 1000 if i % 2 else 3000):
                    wrong += 1
            except CacheError:
                failed += 1
        again.close()
    assert (reads, wrong) == (9000, 0)
    assert failed > 0


class Framed:
    @staticmethod
    def of(i: int) -> bytes:
        return frame.pack(key(i), value(i, 1000 if i % 2 else 3000))

    @staticmethod
    def body(i: int, data: bytes) -> bytes:
        return bytes(frame.unpack(key(i), data))


def test_f12_settings_rows_are_ignored_and_reported(disk: DiskCache):
    samples = filled(disk)
    disk.close()
    for name, setting in (("get", "x"), ("disk_bogus", 1), ("sqlite_journal_mode", "delete"), ("eviction_policy", "nope")):
        rows(disk, "INSERT OR REPLACE INTO Settings VALUES (?, ?)", name, setting)
    assert bytes(samples.get(entry(0)).value) == value(0, 50_000)
    assert any("unknown setting 'get'" in f.what for f in disk.health())


def test_f13_a_newer_schema_is_left_untouched(disk: DiskCache):
    filled(disk)
    disk.close()
    marker = place(disk) / "version.json"
    text = marker.read_text().replace(f'"schema": {frame.SCHEMA}', '"schema": 9')
    marker.write_text(text)
    with pytest.raises(CacheStoreError, match="schema 9 is newer.*untouched"):
        make(disk.location.folder).prepare()
    assert marker.read_text() == text


def test_f14_two_live_runs_with_two_budgets(disk: DiskCache):
    filled(disk)
    second = make(disk.location.folder, budget=5_000_000)
    with pytest.raises(CacheError, match=r"cache.budget=1000000000, this one asks for 5000000"):
        second.prepare()
    disk.close()
    second.prepare()
    assert disk.versions()[0].budget == 5_000_000
    assert len(list(disk)) == 8


def test_versions_of_a_damaged_index_leak_nothing(disk: DiskCache):
    filled(disk)
    disk.close()
    garbage(place(disk) / "cache.db")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        (info,) = disk.versions()
        assert (info.damaged, info.in_use) == (True, False)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
