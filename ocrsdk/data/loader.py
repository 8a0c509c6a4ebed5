"""``Loader``: a DataLoader whose processes neither lose a batch, nor hang unseen, nor outlive the run.

Three things go wrong with torch's own, each without a word:

* What fails while a process sends a batch is printed, the batch is lost, and the main process waits for ever: see ``sending``.
* A process that is stopped is waited for without end. Here ``LoaderWatch`` kills it, and the wait ends with an error that tells so.
* When the main process is killed, one that waits for the lock of another stays. Here each ends with its parent.
"""

from __future__ import annotations

import errno
import multiprocessing
import multiprocessing.util
import os
import shutil
import signal
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import cv2
import psutil
import torch
from torch._C import _remove_worker_pids
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ocrsdk.data.dataset import SampleIndex
from ocrsdk.data.sending import SHARED_MEMORY, Sent
from ocrsdk.data.workers import WorkLog
from ocrsdk.errors import TrainingError
from ocrsdk.logs import bind, get_logger
from ocrsdk.processes import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


POLL_SECONDS = 4.0
"""How often a wait for a batch is looked at."""
FROZEN_POLLS = 4
"""A process that is found stopped so many times in a row is killed."""
SLOW_SECONDS = 30.0
"""A wait that lasts longer is told, with what the processes are working on."""
_LOCKS = 8 * 4096
"""Bytes there that the locks and events of a process take: a page each."""


class Loader(DataLoader[Any]):
    """A DataLoader of which every wait is watched.

    Args:
        dataset: Any map-style dataset.
        watch: Of this loader alone.
        collate: From samples to what is served.
        options: As for ``DataLoader``.
    """

    def __init__(self, dataset: Dataset[Any], watch: LoaderWatch, collate: Callable[[Any], Any], **options: Any) -> None:
        workers = options.get("num_workers", 0)
        super().__init__(
            _Noted(dataset, watch.log) if workers else dataset,
            collate_fn=Sent(collate) if workers else collate,
            worker_init_fn=_start_worker if workers else None,
            **options,
        )
        self.watch = watch
        self._has_processes = False

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Start the processes, or an epoch.

        Raises:
            TrainingError: There is no room for their locks.
        """
        if self.num_workers:
            self.watch.start()
            if not self._has_processes and _room_for_locks() < _LOCKS * (self.num_workers + 1):
                raise _no_room()  # before torch's own iterator is half made
            self._has_processes = self.persistent_workers
        try:
            with self.watch.waiting():
                batches = super().__iter__()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise _no_room() from error
        self.watch.serve(batches)
        return _Watched(batches, self.watch)


class _Watched:
    """An iterator whose waits are noted; when one fails, no process is left that would be waited for once more."""

    def __init__(self, batches: Iterator[Any], watch: LoaderWatch) -> None:
        self._batches, self._watch = batches, watch

    def __iter__(self) -> _Watched:
        return self

    def __next__(self) -> object:
        try:
            with self._watch.waiting():
                return next(self._batches)
        except StopIteration:
            raise
        except BaseException:
            self._watch.kill()
            raise


class LoaderWatch:
    """Knows the processes of one loader, and how long the main process has been waiting for a batch.

    Args:
        workers: How many processes; 0 for a loader without.
        name_of: What a sample is called, by its index.
    """

    def __init__(self, workers: int, name_of: Callable[[int], str]) -> None:
        self.log = WorkLog(workers)
        self.name_of = name_of
        self.frozen: dict[int, float] = {}
        """Process -> seconds that it had been stopped when it was killed."""
        self._since: float | None = None
        self._thread: threading.Thread | None = None
        self._stopped: dict[int, int] = {}
        self._told = False
        self._killed: list[int] = []
        self._batches: weakref.ref[Any] | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While the main process does so."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None

    def waited(self) -> float:
        """Seconds of the wait under way; 0 if there is none."""
        since = self._since
        return time.monotonic() - since if since is not None else 0.0

    def serve(self, batches: object) -> None:
        """Note torch's iterator, whose processes ``kill`` ends."""
        self._batches = weakref.ref(batches)

    def start(self) -> None:
        """Look at every wait from now on, until this object is gone."""
        _started.add(self)
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=_look_on, args=(weakref.ref(self),), name="ocrsdk-loader", daemon=True)
            self._thread.start()

    def processes(self) -> list[int]:
        """Those that are alive."""
        return [pid for pid in self.log.processes() if _status(pid) not in _ENDED]

    def dead(self) -> list[int]:
        """Those that had ended before ``kill`` was called."""
        return [pid for pid in self.log.processes() if pid not in self._killed and _status(pid) in _ENDED]

    def look(self) -> None:
        """Kill processes that have been stopped for a while; tell once if the wait is long."""
        waited = self.waited()
        if waited < POLL_SECONDS:
            self._stopped.clear()
            self._told = False
            return
        stopped = [pid for pid in self.log.processes() if _status(pid) == psutil.STATUS_STOPPED]
        self._stopped = {pid: self._stopped.get(pid, 0) + 1 for pid in stopped}
        for pid, polls in self._stopped.items():
            if polls >= FROZEN_POLLS:
                self.frozen[pid] = polls * POLL_SECONDS
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if waited > SLOW_SECONDS and not self._told:
            self._told = True
            working = {str(pid): name for pid in self.processes() if (name := self.work_of(pid))}
            get_logger(__name__).warning("a batch is late", seconds=round(waited), processes=working)

    def work_of(self, pid: int) -> str | None:
        """What the process is, or was, working on; None if it is none of this loader's, or has not begun."""
        index = self.log.index_of(pid)
        return self.name_of(index) if index is not None else None

    def wake(self) -> None:
        """Let processes go on that somebody has stopped, so that they see the end: Python waits for them at its own."""
        for pid in self.processes():
            if _status(pid) == psutil.STATUS_STOPPED:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """End the processes that are left: they heed no SIGTERM, and one may wait for what a dead one held."""
        batches = self._batches() if self._batches is not None else None
        if getattr(batches, "_worker_pids_set", False):
            # else torch would raise an error at any later end of any child, wherever this process is by then
            _remove_worker_pids(id(batches))
            batches._worker_pids_set = False  # type: ignore[union-attr]
        starting = [worker.pid for worker in getattr(batches, "_workers", ()) if worker.is_alive()]
        for pid in {*self.processes(), *starting}:
            self._killed.append(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


_started: weakref.WeakSet[LoaderWatch] = weakref.WeakSet()


def _kill_left() -> None:
    """At the end of Python: it waits for processes that an iterator still holds, and these heed no SIGTERM."""
    for watch in list(_started):
        watch.kill()


multiprocessing.util.Finalize(None, _kill_left, exitpriority=10)


def _look_on(reference: weakref.ref[LoaderWatch]) -> None:
    while True:
        time.sleep(POLL_SECONDS)
        watch = reference()
        if watch is None:
            return
        watch.look()
        del watch


_ENDED = ("", psutil.STATUS_ZOMBIE)


def _status(pid: int) -> str:
    """As psutil names it; empty if it is gone, and another process has its number."""
    try:
        process = psutil.Process(pid)
        ours = os.getpid() in (parent.pid for parent in process.parents())  # or those of a server that starts them for us
        return str(process.status()) if ours else ""
    except psutil.NoSuchProcess:
        return ""


def _room_for_locks() -> float:
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else float("inf")


def _no_room() -> TrainingError:
    return TrainingError(
        f"the shared memory ({SHARED_MEMORY}) is full: loader processes cannot start. Load in the main process with --workers 0, "
        "or give more: docker run --shm-size=2g"
    )


# ------------------------------------------------------------------------------------------------------- in a loader process


class _Noted(Dataset[Any]):
    """Notes which sample a loader process works on, so that one that dies can be asked about."""

    def __init__(self, dataset: Dataset[Any], log: WorkLog) -> None:
        self.dataset, self.log = dataset, log

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, where: Any) -> object:
        self.log.note(where.index if isinstance(where, SampleIndex) else where)
        return self.dataset[where]


def _start_worker(worker: int) -> None:
    """One thread each: workers share the CPUs with the training step. A signal to the group stops the run, not its workers."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        end_with_parent(parent.sentinel, signalled=threading.current_thread().name == "MainThread")
    info = get_worker_info()
    assert info is not None
    assert isinstance(info.dataset, _Noted)
    info.dataset.log.note(-1)
    bind(worker=worker)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
