"""The process that trains."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from ocrsdk.training.device import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for mebibytes in (1, 40, 64):
        torch.ones(mebibytes * 2**18)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are")
def test_freed_memory_is_taken_again():
    def faults(how: str) -> int:
        return int(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True).stdout)

    assert faults("leave") > 20
    assert faults("keep") < 10  # the first rounds find places for all blocks
