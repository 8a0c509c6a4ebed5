"""What runs out is told in one line, however deep below it was noticed."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ocrsdk.cli.limits import exhausted
from tests.data.test_loader import can_mount
from tests.training.runs import SMALL


def caused(outer: Exception, inner: Exception) -> Exception:
    outer.__context__ = inner
    return outer


IN_A_LOADER = OSError("Caught OSError in DataLoader worker process 0.\nTraceback\nOSError: [Errno 24] Too many open files\n")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "x", "/a/b"), "/a/b: no space is left"),
        (caused(RuntimeError("unexpected pos 64 vs 0"), OSError(errno.ENOSPC, "x")), "no space"),
        (OSError(errno.EMFILE, "x"), "ulimit -n"),
        (
            OSError("Caught OSError in DataLoader worker process 0.\nTraceback\nOSError: [Errno 24] Too many open files\n"),
            "ulimit -n",
        ),
        (RuntimeError("Too many open files. Communication with the workers is no longer possible."), "ulimit -n"),
        (MemoryError(), "memory ran out"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), "memory ran out"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "memory ran out"),
    ],
)
def test_what_has_run_out(error: Exception, words: str):
    assert words in str(exhausted(error))


@pytest.mark.parametrize(
    "error", [RuntimeError("no idea"), KeyError("x"), OSError(errno.ENOENT, "x"), ValueError("Caught nothing")]
)
def test_other_errors_are_no_limits(error: Exception):
    assert exhausted(error) is None


@pytest.mark.parametrize("args", [("cache", "status", "--json"), ("config", "show"), ("plugins", "list", "--json")])
def test_f87_output_that_cannot_be_written_is_an_error_in_one_line(args: tuple[str, ...]):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run([sys.executable, "-m", "ocrsdk", *args], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr == "error: no space is left: make room\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "value", "size", "words"),
    [
        (resource.RLIMIT_NOFILE, 32, SMALL, "ulimit -n"),
        (resource.RLIMIT_AS, 4 * 10**9, ("--set", "data.crop=4096", "--batch-size", "6"), "memory ran out"),
    ],
)
def test_f87_limits_of_the_system_are_named(
    tmp_path: Path, synth_pages: Path, limit: int, value: int, size: tuple[str, ...], words: str
):
    command = [sys.executable, "-m", "ocrsdk", "train", synth_pages, "--epochs", "1", "--run-dir", "run", *size]
    done = subprocess.run(
        [str(word) for word in command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
        preexec_fn=lambda: resource.setrlimit(limit, (value, value)),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert words in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("unshare") or not can_mount(), reason="no file system may be mounted here")
def test_f87_a_disk_that_is_full_at_a_checkpoint_is_named(tmp_path: Path, synth_pages: Path):
    script = 'mount -t tmpfs -o size=3m t disk && cd disk && exec "$@"'
    (tmp_path / "disk").mkdir()
    command = [sys.executable, "-m", "ocrsdk", "train", synth_pages, "--epochs", "1", "--run-dir", "run", *SMALL]
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script, "bash", *map(str, command)], cwd=tmp_path, capture_output=True, text=True,
        check=False, env={**os.environ, "OCRSDK_CACHE__POLICY": "off"},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "no space is left" in done.stderr.splitlines()[-1]
    assert "last.ckpt" in done.stderr
