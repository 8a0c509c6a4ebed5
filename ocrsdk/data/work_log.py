"""Which sample each loader process is working on, so that one that dies can be asked about."""

from __future__ import annotations

import os

import psutil
import torch
from torch.utils.data import get_worker_info


class WorkLog:
    """A table in shared memory: a row for each loader process, with its pid and the index of its sample.

    Args:
        workers: Number of loader processes.
    """

    def __init__(self, workers: int) -> None:
        self._table = torch.full((max(1, workers), 2), -1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._rows = self._table.numpy()

    def note(self, index: int) -> None:
        """This loader process begins with the sample ``index``; in the main process nothing is noted."""
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
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
