"""The cache backend ``diskcache``: an SQLite index and value files (``safe_index.py``), in versions."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import diskcache
from diskcache.core import DBNAME
from pydantic import BaseModel, ConfigDict, Field

from ocrsdk.cache.base import CacheBackend, CacheLocation, Finding, Severity, Usage, VersionInfo
from ocrsdk.cache.file_system import check_root, environment_error
from ocrsdk.cache.folder import Marker, VersionFolder, leftovers, remove_version_folder
from ocrsdk.cache.frame import unpack
from ocrsdk.cache.lock import Hold
from ocrsdk.cache.disk.index import SafeIndex, fork_guard, is_ours
from ocrsdk.errors import (
    CacheEntryError,
    CacheEntryLostError,
    CacheEnvironmentError,
    CacheError,
    CacheForeignError,
    CacheStoreError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUARANTINE_LIMIT = 8


class DiskCache(CacheBackend):
    """Values in files, an index in SQLite; for one machine, any number of processes."""

    name = "diskcache"
    summary = "versioned, checked and durable, on a local disk"

    class Options(BaseModel):
        """Options of ``diskcache``."""

        # Descriptions as arguments: to find them below the fields, pydantic would parse this file whenever a cache is opened.
        model_config = ConfigDict(extra="forbid", frozen=True)

        durability: Literal["full", "fast"] = Field(
            "full",
            description="full brings a value to the disk before its index row; fast leaves the time to the system (a power cut may "
            "cost the last values, which are then found missing, never wrong).",
        )
        lock_timeout: float = Field(5.0, gt=0, le=600, description="Seconds to wait for another process that writes.")
        inline_bytes: int = Field(
            32768, ge=0, le=2**20, description="Values smaller than this are kept in the index instead of in files."
        )

    def __init__(self, location: CacheLocation, options: BaseModel | None = None) -> None:
        super().__init__(location, options)
        self._folder = VersionFolder(location, self.name)
        self._index: SafeIndex | None = None
        self._hold: Hold | None = None
        self._pid = -1
        self._checked = 0.0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_index": None, "_hold": None, "_pid": -1}

    # -------------------------------------------------------------------- opening

    def prepare(self) -> None:
        """Create the version, check that it opens, and close it again: nothing is open when workers are forked."""
        with self._errors():
            check_root(self.location.folder)
            index = self._opened(create=True)
            index.bytes_and_entries()
            self.close()
            self._folder.settle_budget()
            self._folder.mark_used()

    def _opened(self, create: bool = True) -> SafeIndex:
        if self._index is not None and self._pid == os.getpid():
            return self._index
        if self._index is not None:  # of the parent: leave it as it is
            fork_guard.inherited.append((self._index, self._hold))
        path = self._folder.path
        if create:
            self._folder.create(SafeIndex.create)
        Marker.read(path)
        if not (path / DBNAME).exists():
            left = sum(1 for _ in path.glob("??/??/*.val"))
            raise CacheStoreError(
                f"{path}: the index {DBNAME} is missing, {left} value files are left. Try: ocrsdk cache clear --rebuild"
            )
        self._hold = Hold(path)
        options = self.options
        read_only = not os.access(path, os.W_OK)
        self._index = SafeIndex(path, options.lock_timeout, options.inline_bytes, options.durability == "full", read_only)
        self._pid = os.getpid()
        self._checked = time.monotonic()
        return self._index

    def _reopen_if_removed(self, now: bool) -> None:
        """Notice that the version was cleared or removed; reads look once a second, writes always."""
        if self._hold is None or self._pid != os.getpid():
            return
        clock = time.monotonic()
        if now or clock - self._checked > 1:
            self._checked = clock
            if not self._hold.still_there():
                self.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """One thread in SQLite at a time, and every failure by its right name."""
        path = self._folder.path
        with fork_guard:
            try:
                yield
            except CacheError:
                raise
            except diskcache.Timeout as timeout:
                self._raise_for(timeout.__context__ or timeout, path)
            except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:  # the latter two from damaged text and numbers
                self._raise_for(error, path)
            except FileNotFoundError:
                raise CacheStoreError(f"{path}: the index {DBNAME} is missing. Try: ocrsdk cache clear --rebuild") from None
            except OSError as error:
                raise environment_error(error, path) from error

    def _raise_for(self, error: BaseException, path: Path) -> None:
        text = str(error)
        if "locked" in text or "busy" in text:
            holder = _lock_holder(path / f"{DBNAME}-shm")
            raise CacheEnvironmentError(
                f"{path}: locked for more than {self.options.lock_timeout:g} s by {holder}; wait for it, or stop it"
            ) from None
        if "readonly" in text:
            raise CacheEnvironmentError(f"{path}: cannot be written; it is read-only") from None
        if "full" in text:
            raise environment_error(OSError(errno.ENOSPC, text), path / DBNAME) from None
        if "unable to open" in text or "disk I/O error" in text:
            raise CacheEnvironmentError(f"{path / DBNAME}: {text}; check the disk, its permissions, and open files") from None
        raise CacheStoreError(f"{path / DBNAME}: the index is damaged ({text}). Try: ocrsdk cache clear --rebuild") from None

    # ------------------------------------------------------------------- contract

    @property
    def read_only(self) -> bool:
        """True if the version is there and may not be written."""
        path = self._folder.path
        return os.path.isdir(path) and not os.access(path, os.W_OK)  # noqa: PTH112 - Path.is_dir raises where it may not look

    def get(self, key: str) -> bytes | memoryview | None:
        """See the contract. A read-only folder can be read."""
        with self._errors():
            self._reopen_if_removed(now=False)
            if self._index is None and not self._folder.path.is_dir():
                return None
            index = self._opened()
            for _ in range(10):
                try:
                    value: bytes | memoryview | None = index.get(key)
                except CacheEntryLostError as error:
                    self._reopen_if_removed(now=True)
                    if self._index is None:
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
        with self._errors():
            self._reopen_if_removed(now=True)
            index = self._opened()
            if index.read_only:
                raise CacheEnvironmentError(f"{self._folder.path}: cannot be written; it is read-only")
            if index.bytes_and_entries()[0] + len(value) > self.location.budget:
                return False
            disk = index.disk
            try:
                index.set(key, value)
            except BaseException:
                disk.forget_written()
                raise
            disk.written = None
            if self._hold is None or not self._hold.still_there():
                self.close()
                raise CacheEnvironmentError(f"{self._folder.path}: was removed while it was being written; the value is not kept")
            return True

    def delete(self, key: str) -> bool:
        """See the contract."""
        with self._errors():
            self._reopen_if_removed(now=True)
            if not self._folder.path.is_dir():
                return False
            index = self._opened()
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
            with self._errors():
                if not self._folder.path.is_dir():
                    return
                index = self._opened()
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
        with self._errors():
            if not self._folder.path.is_dir():
                return Usage(0, 0)
            size, entries = self._opened().bytes_and_entries()
        return Usage(entries, size)

    def versions(self) -> list[VersionInfo]:
        """See the contract."""
        return self._folder.infos(lambda location: DiskCache(location, self.options))

    def remove_version(self, version: str) -> None:
        """See the contract. Works on a full disk, and with a damaged index."""
        folder = self._folder.find(version)
        if version == self.location.version:
            self.close()
        remove_version_folder(folder, is_ours)
        for path in leftovers(self._folder.base):
            shutil.rmtree(path, ignore_errors=True)

    def quarantine(self, key: str) -> None:
        """Forget the entry and keep its file, up to eight of them, in ``quarantine/`` for a look."""
        with self._errors():
            index = self._opened()
            if index.read_only:
                return
            folder = self._folder.path / "quarantine"
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

    def close(self) -> None:
        """See the contract."""
        with fork_guard:
            if self._index is not None and self._pid == os.getpid():
                self._index.close()
                if self._hold is not None:
                    self._hold.close()
            self._index, self._hold, self._pid = None, None, -1

    # --------------------------------------------------------------------- health

    def health(self, fix: bool = False) -> list[Finding]:
        """Index, rows and files against one another; see the contract."""
        from ocrsdk.cache.disk.health import Examination

        path = self._folder.path
        try:
            check_root(self.location.folder)
            Marker.read(path)
            with self._errors():
                self._opened(create=False)
            return list(Examination(self, path, fix).findings())
        except (CacheEnvironmentError, CacheForeignError, OSError) as error:
            return [Finding(Severity.ERROR, str(error))]
        except CacheError as error:
            return [Finding(Severity.ERROR, str(error), f"ocrsdk cache clear --version {path.name}", damaged=True)]


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
