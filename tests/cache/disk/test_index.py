"""Damaged, foreign and locked indices, pickles and foreign file names in them."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ocrsdk.cache import frame
from ocrsdk.cache.base import Severity
from ocrsdk.cache.disk.backend import DiskCache
from ocrsdk.cache.store import Outcome
from ocrsdk.errors import CacheEntryError, CacheEnvironmentError, CacheError, CacheStoreError
from ocrsdk.testing.cache import key, value
from tests.cache.stores import entry, filled, make, place, row_key, rows, run_script, value_file


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


@pytest.mark.slow
def test_f31_f32_forks_beside_a_busy_thread_and_inside_a_transaction_never_hang(tmp_path: Path):
    result = run_script(
        """
        import threading
        cache = make(Path(sys.argv[1])); cache.prepare()
        filled(cache, 4)
        stop = threading.Event()
        def busy():
            while not stop.is_set():
                cache.set(key("busy"), b"x" * 1000); cache.get(entry(0).digest)
        thread = threading.Thread(target=busy); thread.start()
        hung = 0
        for n in range(500):
            inside = n % 2 == 1
            if inside:
                from ocrsdk.cache.disk import index as module
                module.fork_guard.__enter__()
                cache.opened().execute("BEGIN IMMEDIATE")
            pid = os.fork()
            if pid == 0:
                ok = cache.get(entry(1).digest) is not None and (inside or cache.set(key(n), b"child"))
                os._exit(0 if ok else 1)
            if inside:
                cache.opened().execute("ROLLBACK")
                module.fork_guard.__exit__()
            deadline = time.monotonic() + 60
            while True:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done: break
                if time.monotonic() > deadline:
                    os.kill(pid, 9); hung += 1; os.waitpid(pid, 0); status = 0; break
                time.sleep(0.001)
            assert status == 0, (n, status)
        stop.set(); thread.join()
        print("hung", hung)
        """,
        tmp_path / "c",
    )
    assert result.stdout.strip() == "hung 0", result.stderr[-2000:]


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
