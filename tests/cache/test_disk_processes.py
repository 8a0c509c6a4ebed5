"""Killed, forked and racing processes on the diskcache backend (F26 to F34 of the fault list)."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from ocrsdk.cache import frame
from ocrsdk.cache.base import Severity
from ocrsdk.cache.disk.backend import DiskCache
from ocrsdk.cache.frame import HEADER_SIZE, SCHEMA
from ocrsdk.errors import CacheEntryError, CacheError, CacheStoreError
from ocrsdk.testing.cache import key, value
from tests.cache.stores import VERSION, filled, make, place, run_script, script_command, value_file


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


@pytest.mark.slow
def test_f28_repair_beside_two_writers_loses_nothing(tmp_path: Path):
    folder = tmp_path / "c"
    make(folder).prepare()
    writer = """
        cache = make(Path(sys.argv[1]))
        names = [f"{os.getpid()}-{n}" for n in range(500)]
        for name in names:
            assert cache.set(key(name), value(name, 60_000))
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
    assert len(names) == 1000
    for name in names:
        assert repairer.get(key(name)) == value(name, 60_000)
    repairer.close()


def test_f29_folders_that_are_not_ours_and_files_that_are_not_ours(disk: DiskCache, tmp_path: Path):
    foreign = tmp_path / "d" / "diskcache" / f"v{SCHEMA}" / VERSION
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


@pytest.mark.parametrize(
    ("slow", "quick"),
    [
        ('EntryKey("a", Slow(a=1)).digest', "entry(1).digest"),
        ('EntryKey(Text("a"), {}).origin_digest', "entry(1).origin_digest"),
        ('Annotation(Path("a"), (TextInstance(Outline()),)).digest', 'Annotation(Path("a"), ()).digest'),
        ('get_logger("a").info(Text("a"))', 'get_logger("a").info("b")'),
    ],
)
def test_a_fork_inherits_no_taken_lock_from_a_thread_that_makes_a_key_or_logs(slow: str, quick: str, tmp_path: Path):
    """The thread is held inside of what it does, and the child does the same."""
    result = run_script(
        f"""
        from ocrsdk.cache import keys
        from ocrsdk.cache.keys import EntryKey
        from ocrsdk.logs import configure, get_logger
        from ocrsdk.types import Annotation, TextInstance
        parent, inside, go = os.getpid(), threading.Event(), threading.Event()
        def wait():
            if os.getpid() == parent:
                inside.set(); go.wait()
        class Slow(dict):
            def items(self):
                wait(); return super().items()
        class Text(str):
            pass
        class Outline:
            def __len__(self):
                wait(); return 0
            def astype(self, dtype):
                return self
            def tobytes(self):
                return b""
        class Stream:
            def write(self, text):
                wait()
            def flush(self):
                pass
            def isatty(self):
                return False
        find = keys.sha256
        def find_slowly(document):
            if isinstance(document.get("origin"), Text):
                wait()
            return find(document)
        keys.sha256 = find_slowly
        console, sys.stderr = sys.stderr, Stream()
        configure("info", "console"); get_logger("a").debug("set up")
        thread = threading.Thread(target=lambda: {slow}); thread.start()
        assert inside.wait(60)
        pid = os.fork()
        if pid == 0:
            {quick}
            os._exit(0)
        end = time.monotonic() + 60
        while time.monotonic() < end and not (done := os.waitpid(pid, os.WNOHANG))[0]:
            time.sleep(0.01)
        if not done[0]:
            os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
        go.set(); thread.join()
        sys.stderr = console
        print(done[1] if done[0] else "hung")
        """
    )
    assert result.stdout == "0\n", result.stderr[-2000:]


def test_f33_clear_while_others_read(tmp_path: Path):
    folder = tmp_path / "c"
    cache = make(folder)
    cache.prepare()
    filled(cache, 300)
    reader = """
        samples = SampleCache(make(Path(sys.argv[1])))
        end, outcomes, passes = time.monotonic() + 120, set(), 0
        while passes < 3 or ("miss" not in outcomes and time.monotonic() < end):
            for i in range(300):
                found = samples.get(entry(i))
                assert found.value is None or bytes(found.value) == value(i, 50_000)
                outcomes.add(str(found.outcome))
            passes += 1
            if passes == 1:
                print("reading", flush=True)
        print(sorted(outcomes))
    """
    readers = [subprocess.Popen(script_command(reader, folder), stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in readers:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
    cache.clear()
    assert [process.communicate()[0].strip() for process in readers] == ["['hit', 'miss']"] * 3


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
