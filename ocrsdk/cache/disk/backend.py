"""The cache backend ``diskcache``: an SQLite index and value files (``index.py``), in versions."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import diskcache
from diskcache.core import DBNAME
from pydantic import Field

from ocrsdk.cache.base import Finding, Usage
from ocrsdk.cache.disk.index import SafeIndex, fork_guard, is_ours
from ocrsdk.cache.file_system import environment_error
from ocrsdk.cache.folder_backend import FolderBackend
from ocrsdk.cache.frame import unpack
from ocrsdk.errors import CacheEntryError, CacheEntryLostError, CacheEnvironmentError, CacheError, CacheStoreError
from ocrsdk.settings import options

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUARANTINE_LIMIT = 8


class DiskCache(FolderBackend[SafeIndex]):
    """Values in files, an index in SQLite; for one machine, any number of processes."""

    name = "diskcache"
    summary = "versioned, checked and durable, on a local disk"

    class Options(options.Options):
        """Options of ``diskcache``."""

        durability: Literal["full", "fast"] = Field(
            "full",
            description="full brings a value to the disk before its index row; fast leaves the time to the system (a power cut may "
            "cost the last values, which are then found missing, never wrong).",
        )
        lock_timeout: float = Field(5.0, gt=0, le=600, description="Seconds to wait for another process that writes.")
        inline_bytes: int = Field(
            32768, ge=0, le=2**20, description="Values smaller than this are kept in the index instead of in files."
        )

    # -------------------------------------------------------------------- the store

    def create_store(self, folder: Path) -> None:
        """An empty index."""
        SafeIndex.create(folder)

    def open_store(self, folder: Path) -> SafeIndex:
        """The index; a read-only folder can be read."""
        if not (folder / DBNAME).exists():
            left = sum(1 for _ in folder.glob("??/??/*.val"))
            raise CacheStoreError(
                f"{folder}: the index {DBNAME} is missing, {left} value files are left. Try: ocrsdk cache clear --rebuild"
            )
        given = self.options
        return SafeIndex(folder, given.lock_timeout, given.inline_bytes, given.durability == "full", self.read_only)

    def is_own_file(self, path: str) -> bool:
        """Index, value files, and those in quarantine."""
        return is_ours(path)

    def close_store(self, store: SafeIndex) -> None:
        """Close the connection."""
        with fork_guard:
            store.close()

    def abandon_store(self, store: SafeIndex) -> None:
        """Keep it as it is."""
        fork_guard.inherited.append(store)

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """As the base class, with one thread in SQLite at a time."""
        with fork_guard, super().errors():
            yield

    def wrong_store(self, error: Exception) -> CacheError | None:
        """What SQLite says, by its right name."""
        path = self.path
        if isinstance(error, diskcache.Timeout):
            error = error.__context__ if isinstance(error.__context__, Exception) else error
        elif not isinstance(
            error, sqlite3.Error | UnicodeDecodeError | OverflowError
        ):  # the latter two from damaged text and numbers
            return None
        text = str(error)
        if "locked" in text or "busy" in text:
            holder = _lock_holder(path / f"{DBNAME}-shm")
            return CacheEnvironmentError(
                f"{path}: locked for more than {self.options.lock_timeout:g} s by {holder}; wait for it, or stop it"
            )
        if "readonly" in text:
            return CacheEnvironmentError(f"{path}: cannot be written; it is read-only")
        if "full" in text:
            return environment_error(OSError(errno.ENOSPC, text), path / DBNAME)
        if "unable to open" in text or "disk I/O error" in text:
            return CacheEnvironmentError(f"{path / DBNAME}: {text}; check the disk, its permissions, and open files")
        return CacheStoreError(f"{path / DBNAME}: the index is damaged ({text}). Try: ocrsdk cache clear --rebuild")

    # ------------------------------------------------------------------- contract

    def get(self, key: str) -> bytes | memoryview | None:
        """See the contract. A read-only folder can be read."""
        with self.errors():
            if not self.is_open and not self.path.is_dir():
                return None
            index = self.opened(look=False)
            for _ in range(10):
                try:
                    value: bytes | memoryview | None = index.get(key)
                except CacheEntryLostError as error:
                    if not self.still_there():
                        self.close()
                        return None  # the version was removed
                    if any(str(filename) in str(error) for filename in index.files_of(key)):
                        raise
                    # Else another process removed or replaced the entry between the row and the file: look again.
                else:
                    return value
            return None

    def set(self, key: str, value: bytes) -> bool:
        """See the contract. The value is on the disk before the index names it."""
        if not isinstance(value, bytes):
            raise TypeError(f"a cache stores bytes, not {type(value).__name__}")
        with self.errors():
            index = self.opened()
            self.refuse_read_only()
            if index.bytes_and_entries()[0] + len(value) > self.location.budget:
                return False
            disk = index.disk
            try:
                index.set(key, value)
            except BaseException:
                disk.forget_written()
                raise
            disk.written = None
            self.confirm_written()
            return True

    def delete(self, key: str) -> bool:
        """See the contract."""
        with self.errors():
            if not self.path.is_dir():
                return False
            index = self.opened()
            if index.read_only:
                return False
            return bool(index.delete(key))

    def __iter__(self) -> Iterator[str]:
        """All keys.

        Raises:
            CacheEntryError: After all good keys, if there are rows that no ocrsdk wrote; nothing in them is run.
        """
        last, refused = -(2**63), None
        while True:
            with self.errors():
                if not self.path.is_dir():
                    return
                index = self.opened()
                rows = index.execute("SELECT rowid, key, raw FROM Cache WHERE rowid > ? ORDER BY rowid LIMIT 1000", (last,))
            if not rows:
                break
            last = rows[-1][0]
            for _, key, raw in rows:
                try:
                    good = index.disk.get(key, raw)
                except CacheEntryError as error:
                    refused = error
                else:
                    yield good
        if refused is not None:
            raise refused

    def usage(self) -> Usage:
        """See the contract."""
        with self.errors():
            if not self.path.is_dir():
                return Usage(0, 0)
            size, entries = self.opened().bytes_and_entries()
        return Usage(entries, size)

    def quarantine(self, key: str) -> None:
        """Forget the entry and keep its file, up to eight of them, in ``quarantine/`` for a look."""
        with self.errors():
            index = self.opened()
            if index.read_only:
                return
            folder = self.path / "quarantine"
            with index.transact():  # no other process can replace the entry while it is looked at again
                try:
                    if (value := index.get(key)) is not None:
                        unpack(key, value)
                    return
                except CacheEntryError:
                    filenames = index.files_of(key)
                    index.execute("DELETE FROM Cache WHERE key = ? AND raw = ?", index.disk.put(key))
            for filename in filenames:
                with contextlib.suppress(OSError, CacheEntryError):
                    folder.mkdir(mode=0o700, exist_ok=True)
                    if filename is not None and len(os.listdir(folder)) < _QUARANTINE_LIMIT:  # noqa: PTH208
                        Path(index.disk.path(filename)).rename(folder / f"{key}.val")
                index.disk.remove(filename)

    def examine(self, fix: bool) -> Iterator[Finding]:
        """Index, rows and files against one another."""
        from ocrsdk.cache.disk.health import Examination

        return Examination(self, fix).findings()


def _lock_holder(shm: Path) -> str:
    """``process 123``: who holds SQLite's write lock, as far as the system tells."""
    with contextlib.suppress(OSError, ValueError):
        inode = str(shm.stat().st_ino)
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            parts = line.split()
            if "WRITE" in parts and any(part.endswith(f":{inode}") for part in parts):
                pid = parts[parts.index("WRITE") + 1]
                return f"process {pid}"
    return "another process"
