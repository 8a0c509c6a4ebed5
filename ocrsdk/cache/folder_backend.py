"""``FolderBackend``: the base of cache backends that keep each version in a folder of its own, on a local disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Generic, TypeVar

from ocrsdk.cache.base import CacheBackend, CacheLocation, Finding, Severity, VersionInfo
from ocrsdk.cache.file_system import check_root, environment_error
from ocrsdk.cache.folder import Marker, VersionFolder, leftovers, remove_version_folder
from ocrsdk.cache.lock import VersionLock
from ocrsdk.errors import CacheEnvironmentError, CacheError, CacheForeignError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic import BaseModel

Store = TypeVar("Store")


class FolderBackend(CacheBackend, Generic[Store]):
    """Versions as folders: creating, finding, locking and removing them, and opening a store in each process.

    A subclass says what a store is (``create_store``, ``open_store``, ``is_own_file``) and how it keeps values (``get``, ``set``,
    ``delete``, ``__iter__``, ``usage``). The rest is here: a version is created whole or not at all, however many processes try at
    once; two runs that disagree about its budget are told so; a store is opened on first use in each process, again after a fork
    and when another process has removed the version; nothing that is not the cache's own is ever removed; a network file system or
    a folder that anyone may write is refused.

    Inside of ``get`` and the others, work with ``self.opened()`` within ``with self.errors():``.

    Args:
        location: Folder, version and budget.
        options: The validated ``Options``, if the class has any.
    """

    def __init__(self, location: CacheLocation, options: BaseModel | None = None) -> None:
        super().__init__(location, options)
        self.folder = VersionFolder(location, self.name)
        self._store: Store | None = None
        self._lock: VersionLock | None = None
        self._pid = -1
        self._looked = 0.0

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_store": None, "_lock": None, "_pid": -1}

    @property
    def path(self) -> Path:
        """The folder of this version."""
        return self.folder.path

    # ------------------------------------------------------------ left to a subclass

    @abstractmethod
    def create_store(self, folder: Path) -> None:
        """Make an empty store in the new folder of a version; the folder is put in its place when this returns."""

    @abstractmethod
    def open_store(self, folder: Path) -> Store:
        """Open the store of a version that is there; called once in each process.

        Raises:
            CacheError: It cannot be opened.
        """

    @abstractmethod
    def is_own_file(self, path: str) -> bool:
        """Whether a path relative to a version's folder, with ``/``, is one that this backend writes."""

    def close_store(self, store: Store) -> None:
        """Let go of what ``open_store`` opened."""

    def abandon_store(self, store: Store) -> None:
        """After a fork, in the child: the store is the parent's. Closing it here could undo the parent's locks."""

    def examine(self, fix: bool) -> Iterator[Finding]:
        """What a health check finds in the store, which can be opened; ``fix`` as for ``health``."""
        return iter(())

    def wrong_store(self, error: Exception) -> CacheError | None:
        """What an exception of the store's own library means; None for one that is a mistake in this code."""
        return None

    # ------------------------------------------------------------------------- opening

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Every failure by its right name: a full disk or a missing permission is the environment's fault, never a miss."""
        try:
            yield
        except CacheError:
            raise
        except OSError as error:
            raise environment_error(error, self.path) from error
        except Exception as error:
            if (known := self.wrong_store(error)) is None:
                raise
            raise known from error

    def opened(self, create: bool = True, look: bool = True) -> Store:
        """The store, opened in this process.

        Args:
            create: Make the version if it is missing.
            look: Notice now that the version was removed; else within a second.
        """
        if self._store is not None and self._pid == os.getpid():
            if self.still_there(look):
                return self._store
            self.close()
        self._forget()
        if create:
            self.folder.create(self.create_store)
        Marker.read(self.path)
        self._lock = VersionLock(self.path)
        self._store = self.open_store(self.path)
        self._pid, self._looked = os.getpid(), time.monotonic()
        return self._store

    def still_there(self, look: bool = True) -> bool:
        """False once the version that this process has open was cleared or removed."""
        if self._lock is None or self._pid != os.getpid():
            return True
        now = time.monotonic()
        if not look and now - self._looked <= 1:
            return True
        self._looked = now
        return self._lock.still_there()

    @property
    def is_open(self) -> bool:
        """Whether this process has the store open."""
        return self._store is not None and self._pid == os.getpid()

    def refuse_read_only(self) -> None:
        """Called before a write.

        Raises:
            CacheEnvironmentError: The version cannot be written.
        """
        if self.read_only:
            raise CacheEnvironmentError(f"{self.path}: cannot be written; it is read-only")

    def confirm_written(self) -> None:
        """Called after a write: a value that went into a folder that is gone is not kept.

        Raises:
            CacheEnvironmentError: The version was removed meanwhile.
        """
        if not self.still_there():
            self.close()
            raise CacheEnvironmentError(f"{self.path}: was removed while it was being written; the value is not kept")

    def close(self) -> None:
        """See the contract."""
        if self._store is not None and self._pid == os.getpid():
            self.close_store(self._store)
            if self._lock is not None:
                self._lock.close()
            self._store = self._lock = None
        self._forget()

    def _forget(self) -> None:
        if self._store is not None:
            self.abandon_store(self._store)
        self._store, self._lock, self._pid = None, None, -1

    # ------------------------------------------------------------------------ contract

    @property
    def read_only(self) -> bool:
        """True if the version is there and may not be written."""
        return os.path.isdir(self.path) and not os.access(self.path, os.W_OK)  # noqa: PTH112 - Path.is_dir raises where it may not look

    def prepare(self) -> None:
        """Create the version, check that it opens, and close it again: nothing is open when workers are forked."""
        with self.errors():
            check_root(self.location.folder)
            self.opened()
            self.usage()
            self.close()
            self.folder.settle_budget()
            self.folder.mark_used()

    def versions(self) -> list[VersionInfo]:
        """See the contract."""
        return self.folder.infos(lambda location: type(self)(location, self.options))

    def remove_version(self, version: str) -> None:
        """See the contract. Works on a full disk, and with a damaged store."""
        folder = self.folder.find(version)
        if version == self.location.version:
            self.close()
        remove_version_folder(folder, self.is_own_file)
        for path in leftovers(self.folder.base):
            shutil.rmtree(path, ignore_errors=True)

    def health(self, fix: bool = False) -> list[Finding]:
        """Folder, marker, and what ``examine`` finds."""
        try:
            check_root(self.location.folder)
            Marker.read(self.path)
            with self.errors():
                self.opened(create=False)
            return list(self.examine(fix))
        except (CacheEnvironmentError, CacheForeignError, OSError) as error:
            return [Finding(Severity.ERROR, str(error))]
        except CacheError as error:
            return [Finding(Severity.ERROR, str(error), f"ocrsdk cache clear --version {self.path.name}", damaged=True)]
