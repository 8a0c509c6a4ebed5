"""How many loader processes."""

from __future__ import annotations

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
