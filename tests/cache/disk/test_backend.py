"""The backend ``diskcache``: its conformance suite, full and read-only disks, limits, forks, killed writers and power cuts."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import textwrap
import time
from pathlib import Path

import pytest

from ocrsdk.cache import frame
from ocrsdk.cache.disk.backend import DiskCache
from ocrsdk.cache.frame import SCHEMA
from ocrsdk.cache.keys import EntryKey
from ocrsdk.cache.store import Outcome, SampleCache
from ocrsdk.errors import CacheEntryError, CacheEnvironmentError
from ocrsdk.testing.cache import CacheBackendSuite, key, value
from tests.cache.stores import entry, fill, filled, make, place, run_script, script_command, value_file


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


def test_names_that_are_no_utf8_are_kept(disk: DiskCache):
    samples = SampleCache(disk)
    odd = EntryKey("image x caf\udce9.jpg", {"source": {"path": "caf\udce9.jpg"}})
    assert samples.set(odd, b"x")
    assert samples.get(odd).outcome is Outcome.HIT


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
        (index,) = mounts[0].glob(f"c/diskcache/v{SCHEMA}/*/cache.db-wal")
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
