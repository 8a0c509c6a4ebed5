"""Folders of versions that are made, removed and cleared while other processes use them."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from ocrsdk.cache.disk.backend import DiskCache
from ocrsdk.cache.store import Outcome, SampleCache
from ocrsdk.testing.cache import value
from tests.cache.stores import entry, filled, make, run_script, script_command


def test_f22_a_folder_removed_while_running(disk: DiskCache):
    samples = filled(disk)
    shutil.rmtree(disk.location.folder)
    assert samples.set(entry(7), value(7, 60_000))
    assert bytes(samples.get(entry(7)).value) == value(7, 60_000)
    fresh = SampleCache(make(disk.location.folder))
    assert bytes(fresh.get(entry(7)).value) == value(7, 60_000)
    assert fresh.get(entry(0)).outcome is Outcome.MISS
    fresh.close()


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


@pytest.mark.slow
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
