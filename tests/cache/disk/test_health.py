"""What the health check of ``diskcache`` finds and repairs, also beside writers."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from ocrsdk.cache.base import Severity
from ocrsdk.cache.disk.backend import DiskCache
from ocrsdk.cache.store import SampleCache
from ocrsdk.testing.cache import key, value
from tests.cache.stores import VERSION, entry, filled, make, place, rows, run_script, value_file


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


def test_versions_of_a_damaged_index_leak_nothing(disk: DiskCache):
    filled(disk)
    disk.close()
    garbage(place(disk) / "cache.db")
    for _ in range(5):
        (info,) = disk.versions()
        assert (info.damaged, info.in_use) == (True, False)
    # Only files of this cache: caches of earlier tests are closed whenever the collector finds them.
    assert [f for f in open_files() if f.is_relative_to(disk.location.folder)] == []


def open_files() -> list[Path]:
    return [Path(link).resolve() for link in Path("/proc/self/fd").iterdir()]
