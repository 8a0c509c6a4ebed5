"""Loader processes: how many, and what each is working on. PyTorch is not imported to choose a number."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ocrsdk.errors import SettingsError

if TYPE_CHECKING:
    import torch

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
        import torch

        self._table = torch.full((max(1, workers), 2), -1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._rows = self._table.numpy()

    def note(self, index: int) -> None:
        """This loader process begins with the sample ``index``; in the main process nothing is noted."""
        from torch.utils.data import get_worker_info

        worker = get_worker_info()
        if worker is not None and worker.id < len(self._rows):
            self._rows[worker.id] = os.getpid(), index

    def index_of(self, pid: int) -> int | None:
        """The sample that the process was working on; None if it is unknown."""
        for row_pid, index in self._rows.tolist():
            if row_pid == pid:
                return int(index)
        return None

    def dead(self) -> list[int]:
        """Loader processes that have ended."""
        return [int(pid) for pid, _ in self._rows.tolist() if pid >= 0 and not _runs(pid)]

    def __getstate__(self) -> torch.Tensor:
        table: torch.Tensor = self._table
        return table

    def __setstate__(self, table: torch.Tensor) -> None:
        self._table, self._rows = table, table.numpy()


def _runs(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
