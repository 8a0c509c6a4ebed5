"""The backend keeps the contract; a damaged or cut file is an error, never a crash."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from ocrsdk.cache.base import CacheLocation, Severity
from ocrsdk.errors import CacheEnvironmentError, CacheError, CacheStoreError
from ocrsdk.fingerprint import fingerprint
from ocrsdk.testing.cache import CacheBackendSuite, key, value
from ocrsdk_lmdb import LmdbCache


class TestLmdb(CacheBackendSuite):
    backend = LmdbCache


@pytest.fixture
def cache(tmp_path: Path) -> LmdbCache:
    cache = LmdbCache(CacheLocation(tmp_path, fingerprint({"a": 1}), {"a": 1}, 10**8))
    cache.prepare()
    return cache


def test_a_value_in_use_stays_as_it_is(cache: LmdbCache):
    cache.set(key(1), value("old", 300_000))
    held = cache.get(key(1))
    for i in range(30):
        cache.set(key(1), value(i, 300_000))
    cache.close()
    assert bytes(held) == value("old", 300_000)
    del held
    gc.collect()
    assert bytes(cache.get(key(1))) == value(29, 300_000)


def test_a_version_that_is_removed_while_a_value_is_in_use_is_never_written_to(cache: LmdbCache):
    cache.set(key(1), value(1, 50_000))
    held = cache.get(key(1))
    other = LmdbCache(cache.location)
    other.remove_version(cache.location.version)
    with pytest.raises(CacheEnvironmentError, match="while values of it are in use"):
        cache.set(key(2), b"lost")
    assert bytes(held) == value(1, 50_000)
    del held
    gc.collect()
    assert cache.set(key(2), b"kept")
    assert list(cache) == [key(2)]
    cache.close()
    assert list(LmdbCache(cache.location)) == [key(2)]


def test_more_values_in_use_than_transactions(cache: LmdbCache):
    for i in range(3):
        cache.set(key(i), value(i, 10_000))
    held = [cache.get(key(i % 3)) for i in range(700)]
    assert all(bytes(v) == value(i % 3, 10_000) for i, v in enumerate(held))


@pytest.mark.parametrize("size", [0, 100, 5000, 20_000, -4096])
def test_a_cut_file_is_an_error(cache: LmdbCache, size: int):
    for i in range(20):
        cache.set(key(i), value(i, 20_000))
    cache.close()
    (data,) = cache.location.folder.rglob("data.mdb")
    whole = data.read_bytes()
    data.write_bytes(whole[:size])
    if size == 0:
        assert cache.get(key(1)) is None  # LMDB makes a new store of an empty file
        return
    with pytest.raises(CacheStoreError, match="ocrsdk cache clear --rebuild"):
        cache.get(key(1))
    (finding,) = cache.health()
    assert (finding.severity, finding.damaged) == (Severity.ERROR, True)
    cache.clear()
    assert cache.set(key(1), b"new")


def test_garbage_is_an_error(cache: LmdbCache):
    cache.set(key(1), b"x")
    cache.close()
    (data,) = cache.location.folder.rglob("data.mdb")
    data.write_bytes(b"garbage" * 10_000)
    with pytest.raises(CacheError):
        cache.get(key(1))
