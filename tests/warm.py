"""``ocrsdk`` in forks of one process that has imported the heavy packages: a new process for each command, without their seconds.

Requests and answers are lines of JSON on stdin and stdout.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any


class WarmCommands:
    """The parent's side."""

    def __init__(self) -> None:
        self._server = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, args: list[str], cwd: Path, env: dict[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
        """As ``subprocess.run`` with ``capture_output`` does it."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, name) for name in ("out", "err")]
            request = {"args": args, "cwd": str(cwd), "env": env, "files": [str(file) for file in files]}
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            if not select.select([self._server.stdout], [], [], timeout)[0]:
                self.close()
                raise subprocess.TimeoutExpired(args, timeout)
            code = json.loads(self._server.stdout.readline())
            out, err = (file.read_bytes().decode(errors="surrogateescape") for file in files)
        return subprocess.CompletedProcess(args, code, out, err)

    def close(self) -> None:
        """Ends the server."""
        self._server.kill()
        self._server.communicate()


def serve() -> None:
    """Forks once for each line of stdin."""
    sys.path.pop(0)  # this folder, whose names are those of many packages
    import pytorch_lightning  # noqa: F401

    import ocrsdk.cli
    import ocrsdk.inference
    import ocrsdk.pipeline
    import ocrsdk.runs.fit

    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        if (pid := os.fork()) == 0:
            become(request)
            try:
                ocrsdk.cli.main()
            except SystemExit as end:
                leave(end.code)
            leave(0)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def leave(code: Any) -> None:
    """The end of a program, but for taking each imported module apart, which takes as long as importing it."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def become(request: dict[str, Any]) -> None:
    """What a shell does before it starts a program."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, file in enumerate(request["files"], 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    sys.path[:0] = [request["cwd"], *filter(None, request["env"].get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = ["ocrsdk", *request["args"]]


if __name__ == "__main__":
    serve()
