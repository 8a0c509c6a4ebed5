"""A ``diskcache.Cache`` made safe: the index and the value files of the backend ``diskcache``.

Stock diskcache runs pickles found in an index, opens and deletes files outside its folder if an index says so, executes settings
found in an index, writes nothing durably, takes an unreadable file for a miss, and evicts everything when a data set is larger than
its limit. ``SafeDisk`` and ``SafeIndex`` replace the parts that do so; the rest is diskcache's.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sqlite3
import threading
import uuid
import weakref
from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import DBNAME, MODE_BINARY, MODE_RAW

from ocrsdk.cache.base import KEY
from ocrsdk.cache.disk.buffers import Buffers
from ocrsdk.cache.file_system import environment_error
from ocrsdk.cache.frame import MAX_BODY
from ocrsdk.errors import CacheEntryError, CacheEntryLostError

VALUE_FILE = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val")
_QUARANTINED = re.compile(r"quarantine/[0-9a-f]{64}\.val")
_INDEX_FILES = frozenset(DBNAME + end for end in ("", "-wal", "-shm", "-journal"))


def is_ours(path: str) -> bool:
    """Whether a file of a version's folder, by its path in there, is one that this backend writes."""
    return path in _INDEX_FILES or bool(VALUE_FILE.fullmatch(path) or _QUARANTINED.fullmatch(path))


class ForkGuard:
    """Held around every call into SQLite, and over every fork: a child never inherits SQLite's own locks in a taken state."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.indices: weakref.WeakSet[SafeIndex] = weakref.WeakSet()
        self.inherited: list[object] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before, after_in_parent=lambda: self.lock.release(), after_in_child=self._renew)

    def _before(self) -> None:
        """SQLite's table of its own file locks is inherited too, and then lies: so nothing is open during a fork."""
        self.lock.acquire()
        for index in list(self.indices):
            index.close_idle()

    def _renew(self) -> None:
        self.lock = threading.RLock()

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


fork_guard = ForkGuard()


class SafeDisk(diskcache.Disk):  # type: ignore[misc]
    """Bytes under hex keys, in files that only this class names. There is no pickle in it."""

    durable = True
    buffers: Buffers
    written: str | None = None
    """The file of the last ``store``, until its row is committed."""

    def put(self, key: object) -> tuple[bytes, bool]:
        """Key to column; only 64 hex digits are keys. As 32 bytes, twice as many fit in a page of the index."""
        if not (isinstance(key, str) and KEY.fullmatch(key)):
            raise ValueError(f"{key!r} is no cache key; expected 64 hex digits")
        return bytes.fromhex(key), True

    def get(self, key: object, raw: object) -> str:
        """Column to key; anything that ``put`` does not give is refused."""
        if raw != 1 or not (isinstance(key, bytes) and len(key) == 32):
            raise CacheEntryError(f"refused a key that no ocrsdk wrote: {str(key)[:40]!r} (raw={raw!r})")
        return key.hex()

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, str | None, bytes | None]:
        """Value to (size, mode, file name, inline value); a large value is in its file when this returns."""
        if not isinstance(value, bytes) or read:
            raise TypeError(f"a cache stores bytes, not {type(value).__name__}")
        self.written = None
        if len(value) < self.min_file_size:
            return 0, MODE_RAW, None, value
        name = uuid.uuid4().hex
        self.written = filename = f"{name[:2]}/{name[2:4]}/{name[4:]}.val"
        path = os.path.join(self._directory, filename)  # noqa: PTH118 - called for every value
        try:
            self._write_file(path, value)
        except OSError as error:
            failed = environment_error(error, path)
            self.forget_written()
            raise failed from error
        return len(value), MODE_BINARY, filename, None

    def _write_file(self, path: str, value: bytes) -> None:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        try:
            fd = os.open(path, flags, 0o600)
        except FileNotFoundError:
            if not os.path.isdir(self._directory):  # noqa: PTH112
                raise
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)  # noqa: PTH103, PTH120
            fd = os.open(path, flags, 0o600)
        try:
            left = memoryview(value)
            while left:
                left = left[os.write(fd, left) :]
            if self.durable:  # the value is on the disk before the row that names it
                (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(fd)
        finally:
            os.close(fd)

    def forget_written(self) -> None:
        """Remove the file whose row was not committed."""
        if self.written is not None:
            self.remove(self.written)
            self.written = None

    def path(self, filename: object) -> str:
        """The path of a value file; names that this class would not give are refused."""
        if not (isinstance(filename, str) and VALUE_FILE.fullmatch(filename)):
            raise CacheEntryError(f"refused a file name that no ocrsdk wrote: {filename!r}")
        return os.path.join(self._directory, filename)  # noqa: PTH118

    def fetch(self, mode: object, filename: object, value: object, read: object) -> bytes | memoryview:
        """Row to value, read whole, in memory of its own; a mode or name that ``store`` does not give is refused."""
        if mode == MODE_RAW and isinstance(value, bytes) and filename is None:
            return value
        if mode != MODE_BINARY or value is not None:
            raise CacheEntryError(f"refused a value of mode {mode!r}, which no ocrsdk wrote")
        path = self.path(filename)
        try:
            with io.FileIO(path) as file:
                size = os.fstat(file.fileno()).st_size
                if size > MAX_BODY + 4096:
                    raise CacheEntryError(f"{path}: too long ({size:,} bytes)")
                data, filled = self.buffers.take(size), 0
                while filled < size and (count := file.readinto(data[filled:])):
                    filled += count
                return data[:filled].toreadonly()
        except FileNotFoundError:
            raise CacheEntryLostError(f"{path}: the value file is gone") from None
        except OSError as error:
            raise environment_error(error, path) from error

    def remove(self, file_path: object) -> None:
        """Delete a value file; called after its row is gone. A name that this class would not give is never followed."""
        with contextlib.suppress(CacheEntryError, OSError):
            os.remove(self.path(file_path))  # noqa: PTH107


class SafeIndex(diskcache.Cache):  # type: ignore[misc]
    """A ``diskcache.Cache`` that trusts nothing it finds in its index, and never waits without a limit.

    Opening reads no setting from the index and writes nothing.
    """

    eviction_policy = "none"
    statistics = 0
    cull_limit = 0
    tag_index = 0

    def __init__(self, folder: Path, timeout: float, inline: int, durable: bool, read_only: bool = False) -> None:
        self._directory = str(folder)
        self._timeout = timeout
        self._txn_id = None
        self._connection: sqlite3.Connection | None = None
        self._owner = -1
        fork_guard.indices.add(self)
        self._disk = SafeDisk(self._directory, min_file_size=inline)
        self._disk.durable = durable
        self._disk.buffers = Buffers()
        self.read_only = read_only

    @staticmethod
    def create(folder: Path) -> None:
        """Make the index in ``folder``."""
        stock = diskcache.Cache(str(folder), timeout=60, disk=SafeDisk, eviction_policy="none", cull_limit=0, size_limit=2**62)
        stock.close()
        (folder / DBNAME).chmod(0o600)

    def close_idle(self) -> None:
        """Close the connection, unless a transaction is open on it; the next use opens another."""
        if self._connection is not None and self._owner == os.getpid() and not self._connection.in_transaction:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None and self._owner == os.getpid():
            self._connection.close()
        self._connection = None

    @property
    def _con(self) -> sqlite3.Connection:
        if self._owner != os.getpid():
            if self._connection is not None:
                fork_guard.inherited.append(self._connection)  # closing it here could undo the parent's locks
                self._connection = None
            self._txn_id, self._owner = None, os.getpid()
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        path = Path(self._directory, DBNAME)
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "the index is missing", str(path))
        uri = path.absolute().as_uri()
        modes = ("?mode=ro", "?immutable=1") if self.read_only else ("?mode=rw",)
        for mode in modes:
            con = sqlite3.connect(uri + mode, timeout=self._timeout, isolation_level=None, uri=True, check_same_thread=False)
            try:
                con.execute("PRAGMA trusted_schema = OFF")
                con.execute("PRAGMA synchronous = NORMAL")  # in WAL mode: consistent after a power cut
                con.execute(f"PRAGMA mmap_size = {2**30}")
                con.execute("SELECT 1 FROM Cache LIMIT 1")
            except sqlite3.OperationalError:
                con.close()
                if mode == modes[-1]:
                    raise
            except BaseException:
                con.close()
                raise
            else:
                return con
        raise AssertionError

    def bytes_and_entries(self) -> tuple[int, int]:
        """Bytes on the disk, index included, and entries; from counters that diskcache's triggers keep."""
        con = self._con
        rows = dict(con.execute("SELECT key, value FROM Settings WHERE key IN ('count', 'size')").fetchall())
        ((pages,),) = con.execute("PRAGMA page_count").fetchall()
        ((page_size,),) = con.execute("PRAGMA page_size").fetchall()
        if not all(isinstance(rows.get(name), int) for name in ("count", "size")):
            raise sqlite3.DatabaseError("the counters in the index are damaged")
        return pages * page_size + rows["size"], rows["count"]

    def files_of(self, key: str) -> list[object]:
        """What the rows of ``key``, one or none, say of the value's file: its name, or None for a value in the index."""
        return [row[0] for row in self.execute("SELECT filename FROM Cache WHERE key = ? AND raw = ?", self.disk.put(key))]

    def execute(self, statement: str, arguments: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of the result."""
        rows: list[tuple[Any, ...]] = self._con.execute(statement, arguments).fetchall()
        return rows
