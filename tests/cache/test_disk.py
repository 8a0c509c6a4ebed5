"""The diskcache backend against its conformance suite, and against real faults (numbers F1 to F34 of the fault list)."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from ocrsdk.cache import frame
from ocrsdk.cache.base import CacheLocation, Severity
from ocrsdk.cache.disk import DiskCache
from ocrsdk.cache.frame import HEADER_SIZE
from ocrsdk.cache.store import Outcome, SampleCache
from ocrsdk.cache.versioning import EntryKey, fingerprint
from ocrsdk.errors import CacheEntryError, CacheEnvironmentError, CacheError, CacheStoreError
from ocrsdk.testing.cache import CacheBackendSuite, key, value

MANIFEST = {"test": 1}
VERSION = fingerprint(MANIFEST)


class TestConformance(CacheBackendSuite):
    backend = DiskCache


def make(folder: Path, budget: int = 10**9, **options: object) -> DiskCache:
    return DiskCache(CacheLocation(folder, VERSION, MANIFEST, budget), DiskCache.Options(**options))


@pytest.fixture
def disk(tmp_path: Path):
    cache = make(tmp_path / "c")
    cache.prepare()
    yield cache
    cache.close()


def place(cache: DiskCache) -> Path:
    return cache.location.folder / "diskcache" / "v1" / VERSION


def entry(i: int) -> EntryKey:
    return EntryKey(f"image:{i}", {"kind": "image", "i": i})


def filled(cache: DiskCache, count: int = 4, size: int = 50_000) -> SampleCache:
    samples = SampleCache(cache)
    for i in range(count):
        assert samples.set(entry(i), value(i, size))
    return samples


def value_file(cache: DiskCache, i: int) -> Path:
    with sqlite3.connect(place(cache) / "cache.db") as db:
        (name,) = db.execute("SELECT filename FROM Cache WHERE key = ?", (entry(i).digest,)).fetchone()
    return place(cache) / name


def rows(cache: DiskCache, statement: str, *arguments: object) -> None:
    with sqlite3.connect(place(cache) / "cache.db") as db:
        db.execute(statement, arguments)


def script_command(script: str, *arguments: object) -> list[str]:
    prelude = (
        "import sys, os, time\nfrom pathlib import Path\nsys.path.insert(0, sys.argv.pop(1))\nfrom tests.cache.test_disk import *\n"
    )
    root = Path(__file__).parents[2]
    return [sys.executable, "-c", prelude + textwrap.dedent(script), str(root), *map(str, arguments)]


def run_script(script: str, *arguments: object, **kwargs: object) -> subprocess.CompletedProcess[str]:
    command = script_command(script, *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, **kwargs)


def test_modes_and_places(disk: DiskCache):
    filled(disk, 1)
    folder = place(disk)
    for path in (folder, folder.parent, folder.parents[1], disk.location.folder):
        assert path.stat().st_mode & 0o777 == 0o700
    assert (folder / "cache.db").stat().st_mode & 0o077 == 0
    assert value_file(disk, 0).stat().st_mode & 0o777 == 0o600


# ------------------------------------------------------------------------ values


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
    rows(disk, "UPDATE Cache SET filename = ? WHERE key = ?", name, entry(1).digest)
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
    rows(disk, "UPDATE Cache SET mode = 4, value = ?, filename = NULL WHERE key = ?", bomb, entry(0).digest)
    value_file(disk, 1).write_bytes(bomb)
    rows(disk, "UPDATE Cache SET mode = 4 WHERE key = ?", entry(1).digest)
    rows(disk, "INSERT INTO Cache(key, raw, mode, value) VALUES (?, 0, 1, ?)", bomb, b"x")
    with pytest.raises(CacheEntryError, match="refused a value of mode 4"):
        disk.get(entry(0).digest)
    with pytest.raises(CacheEntryError, match="refused a key"):
        list(disk)
    assert samples.get(entry(1)).outcome is Outcome.CORRUPT
    assert any("rows that no ocrsdk wrote" in f.what for f in disk.health())
    disk.health(fix=True)
    assert disk.health() == []
    assert len(list(disk)) == 6  # four notes, two values
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["/etc/passwd", "../../../outside.val", "ab/cd/../../../../outside.val"])
def test_f7_files_outside_are_neither_read_nor_deleted(disk: DiskCache, tmp_path: Path, name: str):
    samples = filled(disk)
    outside = tmp_path / "outside.val"
    outside.write_text("mine")
    rows(disk, "UPDATE Cache SET filename = ? WHERE key = ?", name, entry(0).digest)
    with pytest.raises(CacheEntryError, match="refused a file name"):
        disk.get(entry(0).digest)
    assert samples.get(entry(0)).outcome is Outcome.CORRUPT
    rows(disk, "UPDATE Cache SET filename = ? WHERE key = ?", name, entry(1).digest)
    assert disk.delete(entry(1).digest)
    rows(disk, "UPDATE Cache SET filename = ? WHERE key = ?", name, entry(2).digest)
    assert disk.set(entry(2).digest, bytes(50_000))
    rows(disk, "UPDATE Cache SET filename = ? WHERE key = ?", name, entry(3).digest)
    disk.health(fix=True)
    assert disk.get(entry(3).digest) is None
    assert outside.read_text() == "mine"
    assert Path("/etc/passwd").exists()


def test_f8_too_large_or_no_bytes_is_refused_before_writing(disk: DiskCache):
    import numpy as np

    from ocrsdk.data.encoding import encode_arrays

    with pytest.raises(TypeError, match="object"):
        encode_arrays({"a": np.array([{}], dtype=object)})

    with pytest.raises(ValueError, match="more than a cache entry may have"):
        frame.pack(key(1), np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (2**31,), (0,)))
    assert list(disk) == []


# ------------------------------------------------------------------------- store


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
    text = marker.read_text().replace('"schema": 1', '"schema": 9')
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


# ------------------------------------------------------------------- environment


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
    cache._opened()._con.execute("PRAGMA query_only = ON")  # what SQLite says of a file system that the kernel made read-only
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
    import shutil

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
            assert time.monotonic() - start < 5
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


# --------------------------------------------------------------------- processes


@pytest.mark.slow
def test_f26_killed_writers_lose_nothing_and_leave_nothing(tmp_path: Path):
    """120 writers, each killed at a random moment."""
    result = run_script(
        """
        import signal
        cache = make(Path(sys.argv[1])); cache.prepare()
        rng, acknowledged, orphans = random.Random(1), [], 0
        for n in range(120):
            read, write = os.pipe()
            pid = os.fork()
            if pid == 0:
                i = 0
                while True:
                    name = f"{n}-{i}"
                    cache.set(key(name), value(name, 60_000))
                    os.write(write, f"{name} ".encode())
                    i += 1
            os.close(write)
            first = os.read(read, 1)
            time.sleep(rng.uniform(0, 0.05))
            os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
            with os.fdopen(read, "rb") as pipe:
                acknowledged += (first + pipe.read()).decode().split(" ")[:-1]
        assert len(acknowledged) >= 120
        for name in acknowledged:
            assert cache.get(key(name)) == value(name, 60_000), name
        cache.close()
        files = len(list(place(cache).glob("??/??/*.val"))) - len(list(cache))
        cache.health(fix=True)
        assert cache.health() == [], cache.health()
        assert len(list(place(cache).glob("??/??/*.val"))) == len(list(cache))
        print("orphans before the repair:", files, "acknowledged:", len(acknowledged))
        """,
        tmp_path / "c",
    )
    assert result.stdout.startswith("orphans before the repair:"), result.stderr[-2000:]


def test_f27_after_a_power_cut_no_byte_is_wrong(tmp_path: Path):
    """The image under a mounted file system, copied while a stopped writer has more in memory, is what a power cut leaves."""
    image, copy = tmp_path / "disk", tmp_path / "after"
    image.write_bytes(b"")
    os.truncate(image, 256 * 2**20)
    mounts = [tmp_path / "before.mnt", tmp_path / "after.mnt"]
    for mount in mounts:
        mount.mkdir()

    def command(*arguments: object) -> bool:
        try:
            return subprocess.run([str(a) for a in arguments], capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            return False

    if not (command("mkfs.ext4", "-q", image) and command("mount", "-o", "loop", image, mounts[0])):
        pytest.skip("making and mounting a file system is not allowed here")
    script = """
        cache = make(Path(sys.argv[1]))
        cache.prepare()
        i = 0
        while True:
            cache.set(key(i), value(i, 300_000 if i % 3 else 500))
            print(i, flush=True)
            i += 1
    """
    found = wrong = 0
    try:
        process = subprocess.Popen(script_command(script, mounts[0] / "c"), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if line == "60\n":
                os.sync()  # of what came before, everything has to be there
            if line == "150\n":
                process.send_signal(signal.SIGSTOP)
                break
        (index,) = mounts[0].glob("c/diskcache/v1/*/cache.db-wal")
        with index.open("rb") as file:  # the system may write what it holds in any order: here, the index first
            os.fsync(file.fileno())
        shutil.copy(image, copy)
        process.kill()
        process.communicate()
        assert command("mount", "-o", "loop", copy, mounts[1])
        cache = make(mounts[1] / "c")
        keys = {key(i): value(i, 300_000 if i % 3 else 500) for i in range(1000)}
        for name in cache:
            found += 1
            try:
                wrong += cache.get(name) != keys[name]
            except CacheEntryError:
                wrong += 1
        cache.close()
    finally:
        for mount in mounts:
            command("umount", "-l", mount)
    assert wrong == 0
    assert found >= 150


@pytest.mark.slow
def test_f28_repair_beside_two_writers_loses_nothing(tmp_path: Path):
    folder = tmp_path / "c"
    make(folder).prepare()
    writer = """
        cache = make(Path(sys.argv[1]))
        end, slowest, names = time.monotonic() + 6, 0.0, []
        while time.monotonic() < end:
            name = f"{os.getpid()}-{len(names)}"
            start = time.monotonic()
            cache.set(key(name), value(name, 60_000))
            slowest = max(slowest, time.monotonic() - start)
            names.append(name)
        print(" ".join(names))
    """
    results: list[subprocess.CompletedProcess[str]] = []
    threads = [threading.Thread(target=lambda: results.append(run_script(writer, folder))) for _ in range(2)]
    for thread in threads:
        thread.start()
    repairer, findings = make(folder), []
    while any(thread.is_alive() for thread in threads):
        findings += repairer.health(fix=True)
    names = " ".join(result.stdout for result in results).split()
    assert all(result.returncode == 0 for result in results), results
    assert findings == []
    assert len(names) > 100
    for name in names:
        assert repairer.get(key(name)) == value(name, 60_000)
    repairer.close()


def test_f29_folders_that_are_not_ours_and_files_that_are_not_ours(disk: DiskCache, tmp_path: Path):
    foreign = tmp_path / "d" / "diskcache" / "v1" / VERSION
    (foreign / "images").mkdir(parents=True)
    (foreign / "images" / "img_1.jpg").write_text("mine")
    stranger = make(tmp_path / "d")
    assert stranger.health(fix=True)[0].severity is Severity.ERROR
    with pytest.raises(CacheStoreError, match="not a cache of ours"):
        stranger.remove_version(VERSION)
    with pytest.raises(CacheStoreError, match="not a cache of ours"):
        stranger.prepare()
    assert (foreign / "images" / "img_1.jpg").read_text() == "mine"
    filled(disk)
    mine = place(disk) / "labels.json"
    mine.write_text("{}")
    assert any("not the cache's (labels.json)" in f.what for f in disk.health(fix=True))
    with pytest.raises(CacheError, match=r"labels.json.*move them away"):
        disk.clear()
    assert mine.exists()


def test_f30_findings_do_not_depend_on_warning_filters(disk: DiskCache):
    filled(disk)
    value_file(disk, 0).write_bytes(b"")
    value_file(disk, 1).unlink()
    script = "for f in make(Path(sys.argv[1])).health(): print(f.what)"
    outputs = [
        run_script(script, disk.location.folder, env={**os.environ, "PYTHONWARNINGS": filters}).stdout
        for filters in ("default", "ignore", "error::UserWarning")
    ]
    assert len(outputs[0].splitlines()) == 2
    assert outputs[0] == outputs[1] == outputs[2]


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
                from ocrsdk.cache import safe_index as module
                module.fork_guard.__enter__()
                cache._opened().execute("BEGIN IMMEDIATE")
            pid = os.fork()
            if pid == 0:
                ok = cache.get(entry(1).digest) is not None and (inside or cache.set(key(n), b"child"))
                os._exit(0 if ok else 1)
            if inside:
                cache._opened().execute("ROLLBACK")
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


def test_f33_clear_while_others_read(tmp_path: Path):
    folder = tmp_path / "c"
    cache = make(folder)
    cache.prepare()
    filled(cache, 300)
    reader = """
        samples = SampleCache(make(Path(sys.argv[1])))
        end, outcomes = time.monotonic() + 3, {}
        while time.monotonic() < end:
            for i in range(300):
                found = samples.get(entry(i))
                assert found.value is None or bytes(found.value) == value(i, 50_000)
                outcomes[str(found.outcome)] = outcomes.get(str(found.outcome), 0) + 1
        print(sorted(outcomes))
    """
    results: list[subprocess.CompletedProcess[str]] = []
    threads = [threading.Thread(target=lambda: results.append(run_script(reader, folder))) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    cache.clear()
    for thread in threads:
        thread.join()
    assert [r.stdout.strip() for r in results] == ["['hit', 'miss']"] * 3, results


def test_f34_many_processes_create_one_cache(tmp_path: Path):
    script = """
        cache = make(Path(sys.argv[1])); cache.prepare()
        assert cache.set(key(os.getpid()), b"x")
    """
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(run_script(script, tmp_path / "c").returncode)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0] * 16
    cache = make(tmp_path / "c")
    assert len(list(cache)) == 16
    assert list((tmp_path / "c" / "diskcache" / "trash").iterdir()) == []
    cache.close()


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


# ------------------------------------------------------------- several at once


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
    fetch, calls = type(disk._opened().disk).fetch, []

    def replaced_meanwhile(self, *arguments):
        if not calls:
            calls.append(1)
            other.set(entry(0).digest, frame.pack(entry(0).digest, value(0, 50_000)))
        return fetch(self, *arguments)

    monkeypatch.setattr(type(disk._opened().disk), "fetch", replaced_meanwhile)
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


def test_versions_of_a_damaged_index_leak_nothing(disk: DiskCache):
    filled(disk)
    disk.close()
    garbage(place(disk) / "cache.db")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        (info,) = disk.versions()
        assert (info.damaged, info.in_use) == (True, False)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


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
