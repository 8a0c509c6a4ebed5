"""The health check of the backend ``diskcache``: index, rows and value files against one another."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING

import diskcache
from diskcache.core import DBNAME, MODE_BINARY, MODE_RAW

from ocrsdk.cache.base import Finding, Severity
from ocrsdk.cache.disk.index import VALUE_FILE, is_ours
from ocrsdk.cache.folder import foreign_files, leftovers
from ocrsdk.cache.lock import VersionLock
from ocrsdk.errors import CacheEntryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ocrsdk.cache.disk.backend import DiskCache

_GRACE_SECONDS = 3600
"""While others write, a value file without a row may be about to get one; older ones are leftovers of a killed writer."""

_COUNTERS = """
    SELECT (SELECT value FROM Settings WHERE key = 'count'), (SELECT COUNT(*) FROM Cache),
           (SELECT value FROM Settings WHERE key = 'size'), (SELECT COALESCE(SUM(size), 0) FROM Cache)
"""
_Row = tuple[int, object]
"""rowid and file name."""


class Examination:
    """One health check of one version."""

    def __init__(self, cache: DiskCache, fix: bool) -> None:
        self.cache, self.path = cache, cache.path
        self.index = cache.opened(create=False)
        self.fix = fix and not self.index.read_only

    def findings(self) -> Iterator[Finding]:
        """Everything that is not as it should be."""
        yield from self._permissions()
        with self.cache.errors():
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
        if left := leftovers(self.cache.folder.base):
            if self.fix:
                for path in left:
                    shutil.rmtree(path, ignore_errors=True)
            what = f"{left[0].parent}: {len(left)} folders whose creation or removal was cut short"
            yield Finding(Severity.WARNING, what, "ocrsdk cache health --fix", self.fix and not any(path.exists() for path in left))

    def _settings_rows(self) -> Iterator[Finding]:
        with self.cache.errors():
            rows = {str(row[0]) for row in self.index.execute("SELECT key FROM Settings")}
            ((count, entries, size, total),) = self.index.execute(_COUNTERS)
        known = set(diskcache.DEFAULT_SETTINGS) | {"count", "size", "hits", "misses"}
        for row in sorted(rows - known):
            yield Finding(Severity.WARNING, f"{self.path / DBNAME}: unknown setting {row!r} in the index; it is ignored")
        if (count, size) != (entries, total):
            if self.fix:
                with self.cache.errors(), self.index.transact():
                    self.index.execute("UPDATE Settings SET value = (SELECT COUNT(*) FROM Cache) WHERE key = 'count'")
                    self.index.execute("UPDATE Settings SET value = (SELECT COALESCE(SUM(size), 0) FROM Cache) WHERE key = 'size'")
            what = f"{self.path / DBNAME}: counts {count} entries of {size} bytes, has {entries} of {total}"
            yield Finding(Severity.WARNING, what, "ocrsdk cache health --fix", self.fix)

    def _others(self) -> bool:
        """Whether another process has the version open."""
        self.cache.close()
        with VersionLock.alone(self.path) as alone:
            pass
        self.index = self.cache.opened(create=False)
        return not alone

    def _entries(self) -> Iterator[Finding]:
        files = dict(self._value_files())  # before the rows: a file is there before its row
        foreign = list(foreign_files(self.path, is_ours))
        named, lost, sizes, refused = set[str](), list[_Row](), list[_Row](), list[_Row]()
        last = -(2**63)
        while True:
            with self.cache.errors():
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
                with self.cache.errors(), self.index.transact():
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
            oldest = time.time() - _GRACE_SECONDS
            orphans = [name for name in orphans if _mtime(self.path / name) < oldest]
        else:
            with self.cache.errors():  # nobody else: those whose row came meanwhile have it by now
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
