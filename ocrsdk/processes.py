"""Processes that we start: none outlives the one that started it, whatever ends that.

``python -m ocrsdk.processes FD MODULE ARGS...`` runs a module as ``python -m MODULE`` would, for as long as somebody holds the
other end of the pipe FD.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import pickle
import runpy
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, TypeVar

from ocrsdk.errors import OcrsdkError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkProcess

_PR_SET_PDEATHSIG = 1
"""Of Linux's ``prctl``: the signal that this process gets when its parent is gone."""


@contextmanager
def python_module(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | IO[str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Run ``python -m MODULE`` beside this process; it is killed when the context ends, if it has not ended by then.

    Also if this process is killed, and if an exception comes out of the start itself, as from a handler of a signal: the other one
    ends by itself as soon as its pipe is closed.

    Args:
        module: The module; it is run as ``__main__``.
        arguments: Its ``sys.argv[1:]``.
        environment: All variables; this process's own if None.
        stdin: As for ``subprocess.Popen``; text.
        stdout: The same.
        stderr: The same.
    """
    ours, theirs = os.pipe()
    process = None
    try:
        command = [sys.executable, "-m", "ocrsdk.processes", str(ours), module, *arguments]
        process = subprocess.Popen(command, env=environment, pass_fds=(ours,), text=True, stdin=stdin, stdout=stdout, stderr=stderr)
        yield process
    finally:
        os.close(theirs)
        os.close(ours)
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


def end_with_parent(pipe: int, signalled: bool = True) -> None:
    """Kill this process when the other end of ``pipe`` is closed.

    Args:
        pipe: Its descriptor; only the parent holds the other end.
        signalled: On Linux, let the system do it as well: it kills a process that is stopped, too. It means the thread that started
            this process, so this thread has to last as long as the parent.
    """
    if signalled and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def wait() -> None:
        while os.read(pipe, 1):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="ocrsdk-parent", daemon=True).start()


Result = TypeVar("Result")


def in_processes(
    work: Callable[[int], Result], jobs: int, processes: int, start: Callable[[], object] | None = None
) -> Generator[Result, None, None]:
    """``work(0)``, ``work(1)`` and so on, in this order, made by child processes.

    They are forked from this one, so ``work`` may be any function, and what it holds is not copied; results are pickled. Where
    processes cannot be forked, as in a daemon of multiprocessing, and where one would do, all is made here. They are ended when the
    iterator is closed.

    Args:
        work: Makes a result from the number of a job.
        jobs: How many there are.
        processes: At most so many.
        start: Called in each process first.

    Raises:
        OcrsdkError: A process was ended by somebody else.
    """
    count = min(jobs, processes)
    can_fork = sys.platform != "darwin" and "fork" in multiprocessing.get_all_start_methods()
    if count < 2 or not can_fork or multiprocessing.current_process().daemon:
        yield from map(work, range(jobs))
        return
    context = multiprocessing.get_context("fork")
    children: list[ForkProcess] = []
    pipes: list[Connection] = []
    try:
        for number in range(count):
            ours, theirs = context.Pipe(duplex=False)
            pipes.append(ours)
            with theirs:
                child = context.Process(target=_work_off, args=(work, range(number, jobs, count), theirs, start), daemon=True)
                child.start()
            children.append(child)
        for job in range(jobs):
            try:
                done, result = pipes[job % count].recv()
            except EOFError:
                child = children[job % count]
                child.join()
                told = f"a process at work was ended (exit code {child.exitcode}); is there memory enough?"
                raise OcrsdkError(told) from None
            if not done:
                raise result
            yield result
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.join()
        for pipe in pipes:
            pipe.close()


def _work_off(work: Callable[[int], object], jobs: Iterable[int], pipe: Connection, start: Callable[[], object] | None) -> None:
    """In a child process; an interrupt is for the parent, which ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which Python ends those that are left at its own end
    parent = multiprocessing.parent_process()
    if parent is not None:
        end_with_parent(parent.sentinel, signalled=threading.current_thread().name == "MainThread")
    gc.freeze()  # else each collection would touch, and so copy, all that the parent holds
    if start is not None:
        start()
    for job in jobs:
        try:
            answer = True, work(job)
        except Exception as error:  # noqa: BLE001 - raised again in the parent
            answer = False, _sendable(error)
        try:
            pipe.send(answer)
        except BrokenPipeError:
            return
        except Exception as error:  # noqa: BLE001 - what cannot be pickled
            pipe.send((False, TypeError(f"{type(answer[1]).__name__} cannot be sent: {error}: {answer[1]}")))
        if not answer[0]:
            return


def _sendable(error: Exception) -> Exception:
    """The error, or one that says the same, if it does not survive being pickled."""
    try:
        again = pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever its class does
        again = None
    return error if type(again) is type(error) else RuntimeError(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
