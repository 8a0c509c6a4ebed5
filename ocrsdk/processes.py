"""Processes that we start: none outlives the one that started it, whatever ends that.

``python -m ocrsdk.processes FD MODULE ARGS...`` runs a module as ``python -m MODULE`` would, for as long as somebody holds the
other end of the pipe FD.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
