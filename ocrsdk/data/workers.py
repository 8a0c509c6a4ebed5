"""Loader processes: how many, and what each is working on. PyTorch is not imported to choose a number."""

from __future__ import annotations

import multiprocessing
import os

from ocrsdk.errors import SettingsError

MOST_WORKERS_PER_CPU = 4


def available_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_workers(asked: int) -> int:
    """The number of loader processes; -1 asks for one for every two CPUs, at most 8.

    Raises:
        SettingsError: More than four for each CPU were asked for.
    """
    cpus = available_cpus()
    if asked > cpus * MOST_WORKERS_PER_CPU:
        raise SettingsError(
            f"data.workers = {asked}: this machine has {cpus} CPUs; more than {cpus * MOST_WORKERS_PER_CPU} loader processes "
            "only cost memory. Leave --workers out to choose by the number of CPUs"
        )
    return asked if asked >= 0 else min(8, max(1, cpus // 2))


class WorkLog:
    """A table in shared memory: a row for each loader process, with its pid and the index of its sample.

    Args:
        workers: Number of loader processes.
    """

    def __init__(self, workers: int) -> None:
        self._rows = multiprocessing.RawArray("q", [-1] * 2 * workers)  # in a file elsewhere if /dev/shm is full

    def note(self, index: int) -> None:
        """This loader process begins with the sample ``index``, or is idle: -1; in the main process nothing is noted."""
        from torch.utils.data import get_worker_info

        worker = get_worker_info()
        if worker is not None and 2 * worker.id < len(self._rows):
            self._rows[2 * worker.id : 2 * worker.id + 2] = os.getpid(), index

    def index_of(self, pid: int) -> int | None:
        """The sample that the process was working on; None if it has begun none."""
        for row_pid, index in zip(self._rows[::2], self._rows[1::2], strict=True):
            if row_pid == pid and index >= 0:
                return int(index)
        return None

    def processes(self) -> list[int]:
        """Their pids, of those that have ended, too."""
        return [pid for pid in self._rows[::2] if pid >= 0]
