"""Memory of a training process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from ocrsdk.training.memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
rounds = []
for _ in range(12):  # the first ones find places for all blocks
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for mebibytes in (1, 40, 64):
        torch.ones(mebibytes * 2**18)
    rounds.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(rounds[6:]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are")
@pytest.mark.slow
def test_freed_memory_is_taken_again():
    tuned = ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(tuned)}

    def faults(how: str) -> int:
        command = [sys.executable, "-c", PROGRAM, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)

    assert 4 * faults("keep") < faults("leave")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system tells the peak of the whole process only")
@pytest.mark.slow
def test_peak_memory_is_that_of_what_follows_in_this_process():
    """Of a process that was started by a larger one, and of a second run."""
    script = (
        "import sys; from ocrsdk.training.memory import peak_memory, reset_peak_memory\n"
        "before = peak_memory('cpu'); block = bytearray(400 << 20); high = peak_memory('cpu'); del block\n"
        "reset_peak_memory('cpu'); print(before, high, peak_memory('cpu'))"
    )
    large = bytearray(1 << 30)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    del large
    before, high, after = (int(value) / 2**20 for value in done.stdout.split())
    assert before < 900
    assert before + 390 < high < before + 500
    assert after < before + 100
