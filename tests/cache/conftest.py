"""A cache of its own for each test."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cache.stores import make


@pytest.fixture
def disk(tmp_path: Path):
    cache = make(tmp_path / "c")
    cache.prepare()
    yield cache
    cache.close()


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 3 MB, 40 inodes."""
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,nr_inodes=60", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)
