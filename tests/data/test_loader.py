"""Loader processes that lose, stop, or send too much: every wait ends, and tells why."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs
from torch.utils.data import Dataset

from ocrsdk.data import loader
from ocrsdk.data.datamodule import collate
from ocrsdk.data.dataset import make_sample
from ocrsdk.data.loader import Loader, LoaderWatch
from ocrsdk.data.sending import SHARED_MEMORY
from ocrsdk.errors import TrainingError
from ocrsdk.types import Sample

SQUARE = np.array([[4, 4], [28, 4], [28, 28], [4, 28]], np.float32)


def sample(index: int) -> Sample:
    return make_sample(np.full((32, 32, 3), index, np.uint8), [SQUARE], name=f"page {index}")


class Pages(Dataset[Sample]):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Sample:
        return sample(index)


class Slow(Pages):
    def __getitem__(self, index: int) -> Sample:
        time.sleep(300 if index else 0)
        return super().__getitem__(index)


class Unsendable(Pages):
    """Samples that cannot be pickled: torch's own loader prints so, and waits for ever."""

    def __getitem__(self, index: int) -> Sample:
        found = super().__getitem__(index)
        object.__setattr__(found, "annotation", lambda: None)
        return found


def make(dataset: Dataset[Any], workers: int = 2, **options: Any) -> Loader:
    return Loader(dataset, LoaderWatch(workers, lambda index: f"page {index}"), collate, num_workers=workers, **options)


def as_arrays(batches: Any) -> list[list[np.ndarray]]:
    return [[tensor.numpy() for tensor in (batch.image, *batch.targets)] for batch in batches]


@pytest.mark.parametrize(
    "options",
    [{}, {"persistent_workers": True}, pytest.param({"multiprocessing_context": "spawn"}, marks=pytest.mark.slow)],
)
def test_processes_serve_what_the_main_process_does(options: dict[str, Any]):
    served = as_arrays(make(Pages(), 2, batch_size=4, **options))
    for batch, alone in zip(served, as_arrays(make(Pages(), 0, batch_size=4)), strict=True):
        for found, expected in zip(batch, alone, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_an_error_of_a_process_is_raised():
    with pytest.raises(Exception, match="pickle"):
        list(make(Unsendable(), 1))


SMALL_MEMORY = """
set -e
mount -t tmpfs -o size=SIZE t /dev/shm
head -c FILL /dev/zero > /dev/shm/of-somebody-else
exec "$@"
"""


def in_small_memory(size: str, fill: int, *command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command whose /dev/shm has so little room, as in a container."""
    script = SMALL_MEMORY.replace("SIZE", size).replace("FILL", str(fill))
    args = ["unshare", "-m", "bash", "-c", script, "bash", *map(str, command)]
    return subprocess.run(args, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def can_mount() -> bool:
    done = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "t", "/dev/shm"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("unshare") or not can_mount(), reason="no file system may be mounted here")
def test_f72_training_in_a_container_with_little_shared_memory(tmp_path: Path, synth_pages: Path):
    train = [sys.executable, "-m", "ocrsdk", "train", synth_pages, "--workers", "2", "--epochs", "2", "--batch-size", "6"]
    train += ["--run-dir", "run", "--set", "trainer.validations=1", "--set", "data.short_side=96"]
    done = in_small_memory("2m", 0, *train, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("do not fit the shared memory") == 1
    shutil.rmtree(tmp_path / "run")
    full = in_small_memory("1m", 1_000_000, *train, cwd=tmp_path)
    assert full.returncode == 2, full.stderr
    assert full.stderr.splitlines()[-1].startswith("error: the shared memory (/dev/shm) is full")
    assert "--workers 0" in full.stderr
    assert "Traceback" not in full.stderr


def test_a_process_that_is_stopped_is_ended_and_the_wait_with_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loader, "POLL_SECONDS", 0.2)
    slow = make(Slow(), 1)
    batches = iter(slow)
    next(batches)
    (pid,) = slow.watch.processes()
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(RuntimeError, match=str(pid)):
        next(batches)
    assert slow.watch.frozen.keys() == {pid}
    assert slow.watch.work_of(pid) == "page 1"
    assert slow.watch.processes() == []


def test_a_wait_that_is_long_is_told_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loader, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(loader, "SLOW_SECONDS", 0.3)

    class Late(Pages):
        def __getitem__(self, index: int) -> Sample:
            time.sleep(1.5 if index == 1 else 0)
            return super().__getitem__(index)

    with capture_logs() as logs:
        assert len(list(make(Late(), 1))) == 6
    (told,) = [line for line in logs if line["event"] == "a batch is late"]
    assert list(told["processes"].values()) == ["page 1"]


def test_killing_raises_nothing_in_this_process():
    before = set(multiprocessing.active_children())
    slow = make(Slow(), 2)
    batches = iter(slow)
    next(batches)
    started = set(multiprocessing.active_children()) - before
    assert len(started) == 2  # of which one may not have begun
    slow.watch.kill()
    for _ in range(3):  # torch's handler of SIGCHLD would raise for the ones that were killed
        subprocess.run(["true"], check=True)
        time.sleep(0.05)
    assert not any(process.is_alive() for process in started)
    assert slow.watch.processes() == slow.watch.dead() == []
    assert batches is not None  # the iterator is still there


def test_the_room_for_locks_is_looked_at_first(monkeypatch: pytest.MonkeyPatch):
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0
    monkeypatch.setattr(loader, "_LOCKS", free + 1)
    if not SHARED_MEMORY.is_dir():
        pytest.skip("this system has no /dev/shm")
    with pytest.raises(TrainingError, match="--workers 0"):
        iter(make(Pages(), 1))


LEFT = """
from tests.data.test_loader import Pages
from ocrsdk import DetectionDataModule
module = DetectionDataModule(Pages(), Pages(), batch_size=1, workers=2)
batches = iter(module.train_dataloader())
next(batches)
print("one batch", flush=True)
"""


def test_f90_a_program_that_leaves_an_epoch_in_its_middle_ends():
    """With an iterator that still holds its processes; these heed no signal of a terminal."""
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen([sys.executable, "-c", LEFT], cwd=root, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.communicate(timeout=60)[0] == "one batch\n"
        assert process.returncode == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
