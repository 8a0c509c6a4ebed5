"""The cache backend ``diskcache``: an SQLite index and value files (``safe_index.py``), in versions, with a health check."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import diskcache
from diskcache.core import DBNAME, MODE_BINARY, MODE_RAW
from pydantic import BaseModel, ConfigDict, Field

from ocrsdk.cache.base import CacheBackend, CacheLocation, Finding, Severity, Usage, VersionInfo
from ocrsdk.cache.folder import (
    Hold,
    Marker,
    VersionFolder,
    check_root,
    environment_error,
    foreign_files,
    leftovers,
    remove_version_folder,
)
from ocrsdk.cache.frame import unpack
from ocrsdk.cache.safe_index import VALUE_FILE, SafeIndex, fork_guard
from ocrsdk.errors import (
    CacheEntryError,
    CacheEntryLostError,
    CacheEnvironmentError,
    CacheError,
    CacheForeignError,
    CacheStoreError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_INDEX_FILES = frozenset(DBNAME + end for end in ("", "-wal", "-shm", "-journal"))
_QUARANTINED = re.compile(r"quarantine/[0-9a-f]{64}\.val")
_QUARANTINE_LIMIT = 8
GRACE_SECONDS = 3600
"""While others write, a value file without a row may be about to get one; older ones are leftovers of a killed writer."""


_COUNTERS = """
    SELECT (SELECT value FROM Settings WHERE key = 'count'), (SELECT COUNT(*) FROM Cache),
           (SELECT value FROM Settings WHERE key = 'size'), (SELECT COALESCE(SUM(size), 0) FROM Cache)
"""
_Row = tuple[int, object]
"""rowid and file name."""


def _is_ours(path: str) -> bool:
    return path in _INDEX_FILES or bool(VALUE_FILE.fullmatch(path) or _QUARANTINED.fullmatch(path))


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
                    rows = index.execute("SELECT filename FROM Cache WHERE key = ? AND raw = 1", (key,))
                    if rows and str(rows[0][0]) in str(error):
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
        remove_version_folder(folder, _is_ours)
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
                    rows = index.execute("SELECT filename FROM Cache WHERE key = ? AND raw = 1", (key,))
                    index.execute("DELETE FROM Cache WHERE key = ? AND raw = 1", (key,))
            for (filename,) in rows:
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
        path = self._folder.path
        try:
            check_root(self.location.folder)
            Marker.read(path)
            with self._errors():
                self._opened(create=False)
            return list(_Examination(self, path, fix).findings())
        except (CacheEnvironmentError, CacheForeignError, OSError) as error:
            return [Finding(Severity.ERROR, str(error))]
        except CacheError as error:
            return [Finding(Severity.ERROR, str(error), f"ocrsdk cache clear --version {path.name}", damaged=True)]


class _Examination:
    """One health check of one version."""

    def __init__(self, cache: DiskCache, path: Path, fix: bool) -> None:
        self.cache, self.path = cache, path
        self.index = cache._opened(create=False)
        self.fix = fix and not self.index.read_only

    def findings(self) -> Iterator[Finding]:
        """Everything that is not as it should be."""
        yield from self._permissions()
        with self.cache._errors():
            damage = [row[0] for row in self.index.execute("PRAGMA quick_check(5)") if row[0] != "ok"]
        if damage:
            what = f"{self.path / DBNAME}: the index is damaged ({damage[0]})"
            yield Finding(Severity.ERROR, what, "ocrsdk cache clear --rebuild", damaged=True)
            return
        yield from self._settings_rows()
        yield from self._entries()

    def _permissions(self) -> Iterator[Finding]:
        if self.index.read_only:
            yield Finding(Severity.WARNING, f"{self.path}: read-only; hits are served, nothing is written")
        mode = self.path.stat().st_mode & 0o777
        if mode & 0o077:
            if self.fix:
                with contextlib.suppress(OSError):
                    self.path.chmod(0o700)
            fixed = not self.path.stat().st_mode & 0o077
            yield Finding(Severity.WARNING, f"{self.path}: open to others (mode {mode:o})", f"chmod 700 {self.path}", fixed)
        if left := leftovers(self.cache._folder.base):
            if self.fix:
                for path in left:
                    shutil.rmtree(path, ignore_errors=True)
            what = f"{left[0].parent}: {len(left)} folders whose creation or removal was cut short"
            yield Finding(Severity.WARNING, what, "ocrsdk cache health --fix", self.fix and not any(path.exists() for path in left))

    def _settings_rows(self) -> Iterator[Finding]:
        with self.cache._errors():
            rows = {str(row[0]) for row in self.index.execute("SELECT key FROM Settings")}
            ((count, entries, size, total),) = self.index.execute(_COUNTERS)
        known = set(diskcache.DEFAULT_SETTINGS) | {"count", "size", "hits", "misses"}
        for row in sorted(rows - known):
            yield Finding(Severity.WARNING, f"{self.path / DBNAME}: unknown setting {row!r} in the index; it is ignored")
        if (count, size) != (entries, total):
            if self.fix:
                with self.cache._errors(), self.index.transact():
                    self.index.execute("UPDATE Settings SET value = (SELECT COUNT(*) FROM Cache) WHERE key = 'count'")
                    self.index.execute("UPDATE Settings SET value = (SELECT COALESCE(SUM(size), 0) FROM Cache) WHERE key = 'size'")
            what = f"{self.path / DBNAME}: counts {count} entries of {size} bytes, has {entries} of {total}"
            yield Finding(Severity.WARNING, what, "ocrsdk cache health --fix", self.fix)

    def _others(self) -> bool:
        """Whether another process has the version open."""
        assert self.cache._hold is not None
        self.cache.close()
        with Hold.alone(self.path) as alone:
            pass
        self.index = self.cache._opened(create=False)
        return not alone

    def _entries(self) -> Iterator[Finding]:
        files = dict(self._value_files())  # before the rows: a file is there before its row
        foreign = list(foreign_files(self.path, _is_ours))
        named, lost, sizes, refused = set[str](), list[_Row](), list[_Row](), list[_Row]()
        last = -(2**63)
        while True:
            with self.cache._errors():
                rows = self.index.execute(
                    "SELECT rowid, key, raw, mode, filename, size, typeof(value), expire_time FROM Cache"
                    " WHERE rowid > ? ORDER BY rowid LIMIT 5000",
                    (last,),
                )
            if not rows:
                break
            for last, key, raw, mode, filename, size, kind, expire in rows:
                try:
                    self.index.disk.get(key, raw)
                    if mode == MODE_BINARY and kind == "null":
                        self.index.disk.path(filename)
                    elif mode != MODE_RAW or kind != "blob" or filename is not None:
                        raise CacheEntryError("")
                    if expire is not None:
                        raise CacheEntryError("")
                except CacheEntryError:
                    refused.append((last, filename))
                    continue
                if filename is not None:
                    named.add(filename)
                    if files.get(filename) != size:  # perhaps still being written when it was listed; with a row it is whole
                        length = _size(self.path / filename)
                        if length is None:
                            lost.append((last, filename))
                        elif length != size:
                            sizes.append((last, filename))
        yield from self._rows(refused, "rows that no ocrsdk wrote; they are never run or followed")
        yield from self._rows(lost, "entries whose value file is gone")
        yield from self._rows(sizes, "value files of the wrong size")
        yield from self._orphans(files, named)
        if foreign:
            yield Finding(
                Severity.WARNING, f"{self.path}: {len(foreign)} files that are not the cache's ({foreign[0]})", "move them away"
            )

    def _value_files(self) -> Iterator[tuple[str, int]]:
        for top in os.scandir(self.path):
            if len(top.name) == 2 and top.is_dir(follow_symlinks=False):
                for sub in os.scandir(top.path):
                    if sub.is_dir(follow_symlinks=False):
                        for entry in os.scandir(sub.path):
                            name = f"{top.name}/{sub.name}/{entry.name}"
                            if VALUE_FILE.fullmatch(name):
                                with contextlib.suppress(OSError):
                                    yield name, entry.stat(follow_symlinks=False).st_size

    def _rows(self, rows: list[_Row], what: str) -> Iterator[Finding]:
        if not rows:
            return
        if self.fix:
            for start in range(0, len(rows), 100):  # short transactions: a writer never waits long
                with self.cache._errors(), self.index.transact():
                    for row in rows[start : start + 100]:  # unless it has been replaced meanwhile
                        self.index.execute("DELETE FROM Cache WHERE rowid = ? AND filename IS ?", row)
            for _, filename in rows:  # of the wrong size, or gone already; names that are not ours are not followed
                if not self.index.execute("SELECT 1 FROM Cache WHERE filename IS ?", (filename,)):
                    self.index.disk.remove(filename)
        yield Finding(Severity.WARNING, f"{self.path}: {len(rows)} {what}", "ocrsdk cache health --fix", self.fix)

    def _orphans(self, files: Mapping[str, int], named: set[str]) -> Iterator[Finding]:
        orphans = [name for name in files if name not in named]
        if not orphans:
            return
        if self._others():  # any of them may be about to get its row
            oldest = time.time() - GRACE_SECONDS
            orphans = [name for name in orphans if _mtime(self.path / name) < oldest]
        else:
            with self.cache._errors():  # nobody else: those whose row came meanwhile have it by now
                orphans = [n for n in orphans if not self.index.execute("SELECT 1 FROM Cache WHERE filename = ?", (n,))]
        if not orphans:
            return
        size = sum(files[name] for name in orphans)
        if self.fix:
            for name in orphans:
                self.index.disk.remove(name)
        yield Finding(
            Severity.WARNING, f"{self.path}: {len(orphans)} value files without an entry ({size:,} bytes), left by a killed writer",
            "ocrsdk cache health --fix", self.fix,
        )  # fmt: skip


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


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
