"""What the tests of the diskcache backend share."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

from ocrsdk.cache.base import CacheLocation
from ocrsdk.cache.disk.backend import DiskCache
from ocrsdk.cache.frame import SCHEMA
from ocrsdk.cache.keys import EntryKey
from ocrsdk.cache.store import SampleCache
from ocrsdk.fingerprint import fingerprint
from ocrsdk.testing.cache import value

MANIFEST = {"test": 1}
VERSION = fingerprint(MANIFEST)


def make(folder: Path, budget: int = 10**9, **options: object) -> DiskCache:
    return DiskCache(CacheLocation(folder, VERSION, MANIFEST, budget), DiskCache.Options(**options))


def place(cache: DiskCache) -> Path:
    return cache.location.folder / "diskcache" / f"v{SCHEMA}" / VERSION


def entry(i: int) -> EntryKey:
    return EntryKey(f"image:{i}", {"kind": "image", "i": i})


def filled(cache: DiskCache, count: int = 4, size: int = 50_000) -> SampleCache:
    samples = SampleCache(cache)
    for i in range(count):
        assert samples.set(entry(i), value(i, size))
    return samples


def row_key(i: int) -> bytes:
    """What stands in the index for the key of ``entry(i)``."""
    return bytes.fromhex(entry(i).digest)


def value_file(cache: DiskCache, i: int) -> Path:
    with sqlite3.connect(place(cache) / "cache.db") as db:
        (name,) = db.execute("SELECT filename FROM Cache WHERE key = ?", (row_key(i),)).fetchone()
    return place(cache) / name


def rows(cache: DiskCache, statement: str, *arguments: object) -> None:
    with sqlite3.connect(place(cache) / "cache.db") as db:
        assert db.execute(statement, arguments).rowcount != 0


_PRELUDE = """
import hashlib, os, random, resource, shutil, signal, sqlite3, subprocess, sys, threading, time
from pathlib import Path
sys.path.insert(0, sys.argv.pop(1))
from ocrsdk.cache.disk.backend import DiskCache
from ocrsdk.cache.store import Outcome, SampleCache
from ocrsdk.errors import *
from ocrsdk.testing.cache import key, value
from tests.cache.stores import *
"""


def script_command(script: str, *arguments: object) -> list[str]:
    """Runs ``script`` in a new process, with the names that these tests use."""
    root = Path(__file__).parents[2]
    return [sys.executable, "-c", _PRELUDE + textwrap.dedent(script), str(root), *map(str, arguments)]


def run_script(script: str, *arguments: object, **kwargs: object) -> subprocess.CompletedProcess[str]:
    command = script_command(script, *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, **kwargs)


def fill(step) -> None:
    while True:
        step()
