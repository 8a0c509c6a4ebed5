"""Full disks, permissions, limits and locks under the diskcache backend (F15 to F25 of the fault list)."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ocrsdk.cache.disk.backend import DiskCache
from ocrsdk.cache.store import Outcome, SampleCache
from ocrsdk.errors import CacheEnvironmentError, CacheError
from ocrsdk.testing.cache import key, value
from tests.cache.stores import entry, filled, make, place, run_script, value_file


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 3 MB, 40 inodes."""
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,nr_inodes=60", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_f15_a_full_disk_costs_the_cache_and_no_file(small_disk: Path, capfd):
    cache = make(small_disk / "c")
    cache.prepare()
    samples = SampleCache(cache)
    kept = [i for i in range(12) if samples.set(entry(i), value(i, 400_000))]
    assert 3 <= len(kept) <= 7
    assert samples.counts().write_errors >= 3
    assert not samples.enabled
    readable = SampleCache(cache)
    for i in kept:
        assert bytes(readable.get(entry(i)).value) == value(i, 400_000)
    assert len(list(place(cache).glob("??/??/*.val"))) == len(kept)
    cache.clear()
    assert not place(cache).exists()
    assert cache.set(key("after"), b"room again")
    cache.close()


def test_f15_the_message_says_disk_full(small_disk: Path):
    cache = make(small_disk / "c")
    cache.prepare()
    with pytest.raises(CacheEnvironmentError, match=r"disk is full"):
        cache.set(key(1), bytes(4_000_000))
    cache.close()


def test_f16_full_before_it_is_opened(small_disk: Path):
    (small_disk / "fill").write_bytes(b"")
    with (small_disk / "fill").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        fill(lambda: file.write(bytes(65536)))
    with pytest.raises(CacheEnvironmentError, match="full"):
        make(small_disk / "c").prepare()


def test_f17_no_inodes_left(small_disk: Path):
    cache = make(small_disk / "c", inline_bytes=0)
    cache.prepare()
    names = iter(range(100))
    with pytest.raises(CacheEnvironmentError, match="inodes"):
        fill(lambda: cache.set(key(next(names)), b"x"))
    cache.close()


def fill(step) -> None:
    while True:
        step()


def as_nobody(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    if os.getuid() != 0:
        pytest.skip("needs root, to become a user without rights")
    return run_script("import structlog\nos.setgid(65534); os.setuid(65534)\n" + textwrap.dedent(script), *arguments)


def open_to_all(path: Path) -> None:
    for parent in (path, *path.parents):
        if str(parent).startswith("/tmp") and parent != Path("/tmp"):
            parent.chmod(0o755)


def test_f18_a_read_only_folder_serves_hits(disk: DiskCache):
    filled(disk)
    disk.close()
    open_to_all(disk.location.folder)
    for path in disk.location.folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    result = as_nobody(
        """
        samples = SampleCache(make(Path(sys.argv[1])))
        assert bytes(samples.get(entry(0)).value) == value(0, 50_000)
        assert not samples.set(entry(9), b"new")
        assert samples.get(entry(9)).outcome is Outcome.MISS
        print("fine")
        """,
        disk.location.folder,
    )
    assert result.stdout.splitlines()[-1:] == ["fine"], result.stderr


def test_f19_turns_read_only_while_running(small_disk: Path):
    cache = make(small_disk / "c", lock_timeout=1)
    cache.prepare()
    assert cache.set(key(0), bytes(50_000))
    cache.opened()._con.execute("PRAGMA query_only = ON")  # what SQLite says of a file system that the kernel made read-only
    start = time.monotonic()
    with pytest.raises(CacheEnvironmentError, match="read-only"):
        cache.set(key(1), b"small")
    with pytest.raises(CacheEnvironmentError, match="read-only"):
        cache.set(key(1), bytes(50_000))
    assert len(list(place(cache).glob("??/??/*.val"))) == 1
    cache.close()
    assert subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], capture_output=True, check=False).returncode == 0
    with pytest.raises(CacheEnvironmentError, match="read-only"):
        cache.set(key(1), bytes(50_000))
    assert cache.get(key(0)) == bytes(50_000)
    assert not SampleCache(cache).set(entry(1), b"small")
    assert time.monotonic() - start < 20
    cache.close()


def test_f20_an_unreadable_value_is_an_error_that_names_it(disk: DiskCache):
    filled(disk)
    path = value_file(disk, 0)
    disk.close()
    open_to_all(disk.location.folder)
    for other in disk.location.folder.rglob("*"):
        other.chmod(0o755 if other.is_dir() else 0o644)
    path.chmod(0o600)
    result = as_nobody(
        """
        cache = make(Path(sys.argv[1]))
        try:
            cache.get(entry(0).digest)
        except CacheEnvironmentError as error:
            print(error)
        found = SampleCache(cache).get(entry(0))
        assert found.outcome is Outcome.ERROR
        """,
        disk.location.folder,
    )
    assert f"{path}: permission denied" in result.stdout, result.stderr


def test_f21_too_many_open_files_is_no_miss(disk: DiskCache):
    samples = filled(disk)
    assert samples.get(entry(0)).outcome is Outcome.HIT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        with pytest.raises(OSError, match="Too many"):
            fill(lambda: held.append(os.open(os.devnull, os.O_RDONLY)))
        with pytest.raises(CacheEnvironmentError, match="too many open files"):
            disk.get(entry(1).digest)
        assert samples.get(entry(1)).outcome is Outcome.ERROR
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert samples.get(entry(1)).outcome is Outcome.HIT


def test_f22_a_folder_removed_while_running(disk: DiskCache):
    samples = filled(disk)
    shutil.rmtree(disk.location.folder)
    assert samples.set(entry(7), value(7, 60_000))
    assert bytes(samples.get(entry(7)).value) == value(7, 60_000)
    fresh = SampleCache(make(disk.location.folder))
    assert bytes(fresh.get(entry(7)).value) == value(7, 60_000)
    assert fresh.get(entry(0)).outcome is Outcome.MISS
    fresh.close()


def test_f23_a_lock_held_by_another_process(tmp_path: Path):
    cache = make(tmp_path / "c", lock_timeout=0.5)
    cache.prepare()
    filled(cache)
    script = (
        f"import sqlite3, time; db = sqlite3.connect({str(place(cache) / 'cache.db')!r}, isolation_level=None);"
        "db.execute('BEGIN IMMEDIATE'); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        try:
            assert cache.get(entry(0).digest) is not None
            other = make(tmp_path / "c", lock_timeout=0.5)
            assert other.get(entry(0).digest) is not None  # opening does not wait either
            start = time.monotonic()
            with pytest.raises(
                CacheEnvironmentError, match=rf"locked for more than 0.5 s by (process {holder.pid}|another process)"
            ):
                cache.set(key(9), bytes(50_000))
            assert time.monotonic() - start < 30  # diskcache waits for 60 s
            assert len(list(place(cache).glob("??/??/*.val"))) == 4
        finally:
            holder.kill()
    assert cache.set(key(9), bytes(50_000))
    cache.close()
    other.close()


def test_f24_places_that_can_never_work(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="is a file"):
        make(tmp_path / "file").prepare()
    with pytest.raises(CacheError, match="is a file"):
        make(tmp_path / "file" / "below").prepare()
    with pytest.raises(CacheError, match="empty"):
        make(Path()).prepare()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(CacheError, match=r"anyone may write.*chmod o-w"):
        make(tmp_path / "open").prepare()
    assert list((tmp_path / "open").iterdir()) == []


def test_f25_a_data_set_larger_than_the_budget_keeps_its_share(tmp_path: Path):
    count, size = 120, 100_000
    cache = make(tmp_path / "c", budget=int(count * size / 1.2))
    cache.prepare()
    samples = SampleCache(cache)
    for _ in range(3):
        before = samples.counts().hits
        for i in range(count):
            if samples.get(entry(i)).value is None:
                samples.set(entry(i), value(i, size))
        hits = samples.counts().hits - before
    assert abs(hits / count - 1 / 1.2) < 0.02
    cache.close()
