"""The cache backend ``lmdb``: one memory-mapped file for each version; many readers, and hits without a copy."""

from __future__ import annotations

import os
import struct
import weakref
from typing import TYPE_CHECKING, Any, Literal

import lmdb
import numpy as np

import ocrsdk
from ocrsdk import hookimpl
from ocrsdk.cache.base import CacheBackend, Finding, Severity, Usage
from ocrsdk.cache.folder_backend import FolderBackend
from ocrsdk.errors import CacheEnvironmentError, CacheError, CacheForeignError, CacheStoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FILES = frozenset({"lmdb/data.mdb", "lmdb/lock.mdb"})
_BYTES = b"bytes"
"""Holds the sum of the values' sizes; real keys are 64 characters long."""
_SUM = struct.Struct("<Q")
_PAGE = 4096
_ROOM = 64 * 2**20
"""Address space beyond the budget, for the tree and for pages that readers hold."""
_MOST_VIEWS = 500
"""Values in use at one time in one process; further ones are copied."""


class _Shared:
    """One LMDB file, open once in this process, whoever uses it: one that is opened twice loses its locks."""

    def __init__(self, environment: lmdb.Environment, folder: Path) -> None:
        self.environment, self.pid = environment, os.getpid()
        self.identity = _identity(folder)
        self.users = 0
        self.views = 0
        """Values in use, each with a read transaction."""

    def release(self, transaction: lmdb.Transaction) -> None:
        """A value is not in use any more."""
        if self.pid == os.getpid():
            transaction.abort()
            self.views -= 1
            _close_if_idle(self)


_open: dict[str, _Shared] = {}


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _acquire(folder: Path, **kwargs: Any) -> _Shared:
    for path, shared in list(_open.items()):
        if shared.pid != os.getpid():  # of the parent; its own locks and reader slots are not touched by this
            shared.environment.close()
            del _open[path]
    shared = _open.get(str(folder))
    if shared is not None and shared.identity != _identity(folder):
        raise CacheEnvironmentError(
            f"{folder}: was removed and made anew while values of it are in use; they are read from their sources"
        )
    if shared is None:
        shared = _open[str(folder)] = _Shared(lmdb.open(str(folder), **kwargs), folder)
    shared.users += 1
    return shared


def _close_if_idle(shared: _Shared) -> None:
    if shared.users == 0 and shared.views == 0:
        shared.environment.close()
        for path, found in list(_open.items()):
            if found is shared:
                del _open[path]


class LmdbCache(FolderBackend[_Shared]):
    """Values in LMDB; for one machine, any number of processes."""

    name = "lmdb"
    summary = "memory-mapped, for one machine: many readers, hits without a copy"

    class Options(ocrsdk.Options):
        """Options of ``lmdb``."""

        durability: Literal["full", "fast"] = "full"
        """``full`` waits for the disk at each write; ``fast`` does not, and a power cut may cost the version."""

    # -------------------------------------------------------------------- the store

    def create_store(self, folder: Path) -> None:
        """A folder of LMDB's own."""
        (folder / "lmdb").mkdir(mode=0o700)

    def open_store(self, folder: Path) -> _Shared:
        """The file, shared with every other use of it in this process."""
        inner = folder / "lmdb"
        data = inner / "data.mdb"
        if data.exists():
            _refuse_cut(data)
        elif not inner.is_dir() or self.read_only:
            raise CacheStoreError(f"{inner}: data.mdb is missing. Try: ocrsdk cache clear --rebuild")
        size = _rounded(self.location.budget + self.location.budget // 8 + _ROOM)
        return _acquire(
            inner, map_size=size, max_readers=4096, sync=self.options.durability == "full", readonly=self.read_only,
            lock=not self.read_only, readahead=True, mode=0o600,
        )  # fmt: skip

    def close_store(self, store: _Shared) -> None:
        """Let go of the file; values in use keep their pages."""
        store.users -= 1
        _close_if_idle(store)

    def is_own_file(self, path: str) -> bool:
        """LMDB's two files."""
        return path in _FILES

    def wrong_store(self, error: Exception) -> CacheError | None:
        """What LMDB says, by its right name."""
        if not isinstance(error, lmdb.Error):
            return None
        environment = (lmdb.ReadersFullError, lmdb.LockError, lmdb.DiskError, lmdb.MemoryError)
        if isinstance(error, environment) or any(word in str(error) for word in ("No space left", "Read-only", "Permission")):
            return CacheEnvironmentError(f"{self.path}: {error}")
        return CacheStoreError(f"{self.path}: the store is damaged ({error}). Try: ocrsdk cache clear --rebuild")

    # ------------------------------------------------------------------- contract

    @property
    def read_only(self) -> bool:
        """True if the version is there and may not be written."""
        return self.path.is_dir() and not os.access(self.path / "lmdb", os.W_OK)

    def get(self, key: str) -> bytes | memoryview | None:
        """A view of the mapped file; it, and what is made from it, keeps a read transaction open until it is let go."""
        with self.errors():
            if not self.is_open and not self.path.is_dir():
                return None
            try:
                shared = self.opened(create=False)
            except CacheForeignError:
                if self.path.is_dir():
                    raise
                return None  # removed meanwhile
            transaction = shared.environment.begin(buffers=True)
            found = transaction.get(key.encode("ascii"))
            if found is None or len(found) == 0 or shared.views >= _MOST_VIEWS:
                value = None if found is None else bytes(found)
                transaction.abort()
                return value
            view = np.frombuffer(found, np.uint8)
            shared.views += 1
            weakref.finalize(view, shared.release, transaction)
            return memoryview(view)

    def set(self, key: str, value: bytes) -> bool:
        """See the contract."""
        if not isinstance(value, bytes):
            raise TypeError(f"a cache stores bytes, not {type(value).__name__}")
        with self.errors():
            env = self.opened().environment
            self.refuse_read_only()
            name = key.encode("ascii")
            try:
                with env.begin(write=True) as transaction:
                    before = transaction.get(name)
                    size = _total(transaction) + _cost(len(value)) - (_cost(len(before)) if before is not None else 0)
                    if size > self.location.budget:
                        transaction.abort()
                        return False
                    transaction.put(name, value)
                    transaction.put(_BYTES, _SUM.pack(size))
            except lmdb.MapFullError:
                return False
            self.confirm_written()
            return True

    def delete(self, key: str) -> bool:
        """See the contract."""
        with self.errors():
            if not self.path.is_dir() or self.read_only:
                return False
            name = key.encode("ascii")
            with self.opened(create=False).environment.begin(write=True) as transaction:
                before = transaction.get(name)
                if before is None:
                    return False
                transaction.delete(name)
                transaction.put(_BYTES, _SUM.pack(max(0, _total(transaction) - _cost(len(before)))))
                return True

    def __iter__(self) -> Iterator[str]:
        last = b""
        while True:
            with self.errors():
                if not self.path.is_dir():
                    return
                names = []
                with self.opened(create=False).environment.begin() as transaction, transaction.cursor() as cursor:
                    if cursor.set_range(last + b"\0"):
                        for name in cursor.iternext(keys=True, values=False):
                            names.append(name)
                            if len(names) == 1000:
                                break
            if not names:
                return
            last = names[-1]
            yield from (name.decode("ascii") for name in names if name != _BYTES)

    def usage(self) -> Usage:
        """See the contract."""
        with self.errors():
            if not self.path.is_dir():
                return Usage(0, 0)
            with self.opened(create=False).environment.begin() as transaction:
                entries = transaction.stat()["entries"]
                noted = transaction.get(_BYTES) is not None
                return Usage(entries - noted, _total(transaction))

    def examine(self, fix: bool) -> Iterator[Finding]:
        """Readers and counters; the values themselves are read by ``ocrsdk cache validate``."""
        with self.errors():
            env = self.opened(create=False).environment
            stale = env.reader_check()
            total = 0
            with env.begin(buffers=True) as transaction:
                for name, value in transaction.cursor():
                    total += _cost(len(value)) if bytes(name) != _BYTES else 0
                noted = _total(transaction)
            if total != noted and fix:
                with env.begin(write=True) as transaction:
                    transaction.put(_BYTES, _SUM.pack(total))
        if stale:
            yield Finding(Severity.NOTE, f"{stale} slots of killed readers", fixed=True)
        if total != noted:
            remedy = "" if fix else "ocrsdk cache health --fix"
            yield Finding(Severity.WARNING, f"counted {noted} bytes, found {total}", remedy, fixed=fix)


def _total(transaction: lmdb.Transaction) -> int:
    noted = transaction.get(_BYTES)
    return int(_SUM.unpack(bytes(noted))[0]) if noted is not None else 0


def _cost(size: int) -> int:
    """Bytes on the disk: small values share pages, others take whole ones."""
    return size + 80 if size < _PAGE // 2 else -(-(size + 16) // _PAGE) * _PAGE


def _rounded(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _refuse_cut(data: Path) -> None:
    """A mapped file that was cut short kills the process that reads it (SIGBUS); its header tells how long it was."""
    size = data.stat().st_size
    with data.open("rb") as file:
        head = file.read(2 * _PAGE)
    last = 0
    for page in (0, 1):
        meta = head[page * _PAGE + 16 : page * _PAGE + 16 + 136]
        if len(meta) == 136 and struct.unpack_from("<I", meta)[0] == 0xBEEFC0DE:
            last = max(last, struct.unpack_from("<Q", meta, 120)[0])
    if size and (last == 0 or (last + 1) * _PAGE > size):
        raise CacheStoreError(f"{data}: is damaged or was cut short ({size} bytes). Try: ocrsdk cache clear --rebuild")


@hookimpl
def ocrsdk_register_cache_backends() -> list[type[CacheBackend]]:
    """LMDB."""
    return [LmdbCache]
