"""Conformance of cache backends.

::

    from ocrsdk.testing.cache import CacheBackendSuite

    class TestMyCache(CacheBackendSuite):
        backend = MyCache
"""

from __future__ import annotations

import hashlib
import multiprocessing
import pickle
from typing import TYPE_CHECKING, ClassVar

import pytest

from ocrsdk.cache.base import CacheBackend, CacheLocation, Severity
from ocrsdk.cache.keys import EntryKey
from ocrsdk.cache.store import Outcome, SampleCache
from ocrsdk.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZES = (0, 1, 100, 32_767, 32_768, 1_000_003)


def key(name: object) -> str:
    """A valid key."""
    return hashlib.sha256(str(name).encode()).hexdigest()


def value(name: object, size: int) -> bytes:
    """Bytes that no other name gives."""
    return hashlib.shake_256(str(name).encode()).digest(size)


def _work(cache: CacheBackend, prefix: str, count: int) -> None:
    for i in range(count):
        cache.set(key(f"{prefix}{i}"), value(f"{prefix}{i}", 40_000))
        if bytes(cache.get(key(f"{prefix}{i}")) or b"") != value(f"{prefix}{i}", 40_000):
            raise SystemExit(1)
    cache.close()


class CacheBackendSuite:
    """What every backend must do."""

    backend: ClassVar[type[CacheBackend]]

    def make(self, folder: Path, budget: int = 10**9, manifest: str = "a") -> CacheBackend:
        """A backend in ``folder``; override it if yours needs options, or a server."""
        document = {"manifest": manifest}
        cache = self.backend(CacheLocation(folder, fingerprint(document), document, budget))
        cache.prepare()
        return cache

    @pytest.fixture
    def cache(self, tmp_path: Path) -> Iterator[CacheBackend]:
        """An empty, prepared backend."""
        cache = self.make(tmp_path / "cache")
        yield cache
        cache.close()

    def test_has_a_name_and_a_summary(self) -> None:
        """They are shown by ``ocrsdk plugins list``."""
        assert self.backend.name == self.backend.name.lower()
        assert self.backend.summary

    def test_an_unknown_key_is_none(self, cache: CacheBackend) -> None:
        """And no error."""
        assert cache.get(key("nothing")) is None
        assert cache.delete(key("nothing")) is False

    @pytest.mark.parametrize("size", SIZES)
    def test_bytes_come_back_exactly(self, cache: CacheBackend, size: int) -> None:
        """Of every size, after closing too."""
        assert cache.set(key(1), value(1, size)) is True
        assert bytes(cache.get(key(1)) or b"") == value(1, size)
        cache.close()
        assert bytes(cache.get(key(1)) or b"") == value(1, size)

    def test_a_later_value_replaces(self, cache: CacheBackend) -> None:
        """Whatever the sizes."""
        for size in (10, 100_000, 5):
            cache.set(key(1), value(size, size))
            assert bytes(cache.get(key(1)) or b"") == value(size, size)
        assert list(cache) == [key(1)]

    def test_delete_and_iterate(self, cache: CacheBackend) -> None:
        """Iteration gives all keys, once."""
        names = [key(i) for i in range(40)]
        for i, name in enumerate(names):
            cache.set(name, value(i, 100 if i % 2 else 50_000))
        assert sorted(cache) == sorted(names)
        for name in names[:10]:
            assert cache.delete(name) is True
            assert cache.get(name) is None
        assert sorted(cache) == sorted(names[10:])

    def test_only_bytes_under_hex_keys(self, cache: CacheBackend) -> None:
        """Anything else is refused before something is written."""
        for bad in ("text", 3, None, [1]):
            with pytest.raises(TypeError):
                cache.set(key(1), bad)  # type: ignore[arg-type]
        assert list(cache) == []

    def test_versions_do_not_see_one_another(self, cache: CacheBackend, tmp_path: Path) -> None:
        """One folder, two manifests."""
        other = self.make(tmp_path / "cache", manifest="b")
        cache.set(key(1), b"first")
        assert other.get(key(1)) is None
        other.set(key(1), b"second")
        assert bytes(cache.get(key(1)) or b"") == b"first"
        found = {info.version: info for info in cache.versions()}
        assert set(found) == {cache.location.version, other.location.version}
        assert found[other.location.version].manifest == {"manifest": "b"}
        other.close()
        cache.remove_version(other.location.version)
        assert [info.version for info in cache.versions()] == [cache.location.version]
        assert bytes(cache.get(key(1)) or b"") == b"first"

    def test_usage_follows(self, cache: CacheBackend) -> None:
        """Entries exactly, bytes at least those of the values."""
        for i in range(5):
            cache.set(key(i), value(i, 100_000))
        usage = cache.usage()
        assert usage.entries == 5
        assert usage.bytes >= 500_000

    def test_beyond_the_budget_nothing_is_admitted_or_evicted(self, tmp_path: Path) -> None:
        """What is there stays."""
        cache = self.make(tmp_path / "cache", budget=3_000_000)
        kept = [i for i in range(40) if cache.set(key(i), value(i, 200_000))]
        assert 5 <= len(kept) <= 15
        for i in kept:
            assert bytes(cache.get(key(i)) or b"") == value(i, 200_000)
        assert cache.usage().bytes <= 3_000_000 + 200_000
        cache.close()

    def test_clear_leaves_nothing_and_can_be_used_on(self, cache: CacheBackend) -> None:
        """Also by one that had it open."""
        cache.set(key(1), value(1, 100_000))
        cache.clear()
        assert cache.get(key(1)) is None
        assert cache.set(key(2), b"new")
        assert list(cache) == [key(2)]

    def test_a_good_store_is_healthy(self, cache: CacheBackend) -> None:
        """No warning and no error."""
        for i in range(5):
            cache.set(key(i), value(i, 50_000))
        assert [f for f in cache.health() if f.severity is not Severity.NOTE] == []

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_processes_share_it(self, cache: CacheBackend, method: str) -> None:
        """The instance travels to other processes, opened or not, and all of them read and write."""
        if method not in multiprocessing.get_all_start_methods():
            pytest.skip(f"no {method} on this system")
        cache.set(key("before"), b"before")
        context = multiprocessing.get_context(method)
        workers = [context.Process(target=_work, args=(cache, f"{n}-", 10)) for n in range(3)]  # type: ignore[attr-defined]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
            assert worker.exitcode == 0
        assert len(list(cache)) == 31
        assert bytes(cache.get(key("2-9")) or b"") == value("2-9", 40_000)

    def test_travels_by_pickle_while_open(self, cache: CacheBackend) -> None:
        """As to a spawned loader process."""
        cache.set(key(1), b"one")
        again: CacheBackend = pickle.loads(pickle.dumps(cache))
        assert bytes(again.get(key(1)) or b"") == b"one"
        again.close()

    def test_a_damaged_value_is_noticed_and_replaced(self, cache: CacheBackend) -> None:
        """Frames are checked above the backend, whatever it keeps."""
        samples = SampleCache(cache)
        entry = EntryKey("thing", {"kind": "image"})
        assert samples.set(entry, b"good" * 20_000)
        cache.set(entry.digest, bytes(bytearray(cache.get(entry.digest) or b"")[:-1]))
        assert samples.get(entry).outcome is Outcome.CORRUPT
        assert samples.get(entry).outcome is Outcome.MISS
        assert samples.set(entry, b"good" * 20_000)
        found = samples.get(entry)
        assert found.outcome is Outcome.HIT
        assert bytes(found.value or b"") == b"good" * 20_000
