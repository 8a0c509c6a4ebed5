"""The contract of cache backends: bytes in, bytes out, in one version's place.

A backend stores; it need not trust its medium. What is stored is framed, checked and counted one level up, for every backend
alike (``cache/store.py``).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ocrsdk.cache.frame import unpack
from ocrsdk.errors import CacheEntryError
from ocrsdk.plugins.base import Plugin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pydantic import BaseModel

OWN = "ocrsdk"
"""Owner of the versions that hold ocrsdk's own samples."""
KEY = re.compile(r"[0-9a-f]{64}")
"""What a key looks like: a SHA-256 in hex."""


@dataclass(frozen=True)
class CacheLocation:
    """Where a cache keeps its values, and for which version of the preparation."""

    folder: Path
    """Root of all caches; a backend uses the sub-folder of its own name, if it uses files at all."""
    version: str
    """Values written under one version are never read under another."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """What ``version`` is the fingerprint of; stored with the version, to explain differences."""
    budget: int = 10**10
    """Values that would make a version larger than this many bytes are not admitted; nothing is evicted."""


class Severity(StrEnum):
    """How bad a finding is."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One thing that a health check found."""

    severity: Severity
    """How bad it is."""
    what: str
    """What was found and where."""
    remedy: str = ""
    """What to type or do."""
    fixed: bool = False
    """True if this check has already repaired it."""
    damaged: bool = False
    """True if the store has to be made anew."""


@dataclass(frozen=True)
class Usage:
    """How much a version holds."""

    entries: int
    """Values that can be read."""
    bytes: int
    """On the medium, index included."""


@dataclass(frozen=True)
class VersionInfo:
    """One version in a cache."""

    version: str
    """16 hex digits."""
    manifest: Mapping[str, Any]
    """What it is the fingerprint of."""
    usage: Usage
    """How full it is."""
    budget: int
    """Its limit in bytes."""
    created: float
    """Seconds since 1970."""
    used: float
    """When a process last opened it."""
    in_use: bool
    """True while a live process has it open."""
    problem: str = ""
    """Why it cannot be read, if it cannot."""
    damaged: bool = False
    """True if it has to be made anew."""
    outdated: bool = False
    """True if it is of an older layout: it can be listed and removed, and its entries are not counted."""

    @property
    def owner(self) -> str:
        """Whose items it holds: ``ocrsdk`` for training samples, else the name of a ``CachedDataset``; empty if unknown."""
        return str(self.manifest.get("owner", ""))

    def as_dict(self) -> dict[str, object]:
        """A JSON-ready form."""
        return {**asdict(self), "owner": self.owner}


class CacheBackend(Plugin, ABC):
    """Stores values under keys, for one location.

    An instance is created in the main process and travels to data-loader workers, by fork or by pickle: open files and
    connections on first use, per process. Keys match ``KEY``. Several processes read and write at the same time.

    Every method may raise:
        CacheEnvironmentError: The medium, a permission, a limit or a lock got in the way (never reported as a miss).
        CacheStoreError: The store as a whole is damaged, foreign or newer.

    Args:
        location: Folder, version and budget.
        options: The validated ``Options``, if the class has any.
    """

    def __init__(self, location: CacheLocation, options: BaseModel | None = None) -> None:
        super().__init__(options)
        self.location = location

    @property
    def enabled(self) -> bool:
        """False for a backend that keeps nothing: callers then skip the work of encoding."""
        return True

    @property
    def read_only(self) -> bool:
        """True where hits can be served and nothing can be kept: callers then do not try."""
        return False

    def prepare(self) -> None:
        """Check the location and create what is missing; called once in the main process, before any worker starts.

        Raises:
            CacheError: The location can never work (a file instead of a folder, a network file system, ...).
        """

    @abstractmethod
    def get(self, key: str) -> bytes | memoryview | None:
        """The value, exactly as it was set, or None when there is none.

        Raises:
            CacheEntryError: There is an entry, but its value cannot be had or is not one that ``set`` wrote.
        """

    @abstractmethod
    def set(self, key: str, value: bytes) -> bool:
        """Keep ``value`` under ``key``, durably. False if the budget does not admit it."""

    @abstractmethod
    def delete(self, key: str) -> bool:
        """Forget ``key``. False if there was nothing to forget."""

    @abstractmethod
    def __iter__(self) -> Iterator[str]:
        """All keys, in any order; those set or deleted meanwhile may or may not be among them."""

    @abstractmethod
    def usage(self) -> Usage:
        """Entries and bytes of this version, without reading all of them."""

    @abstractmethod
    def versions(self) -> list[VersionInfo]:
        """Every version in this folder, the newest use first; creates nothing."""

    @abstractmethod
    def remove_version(self, version: str) -> None:
        """Remove a version whole, and nothing that is not the cache's. Processes that have it open see misses.

        Raises:
            CacheError: There is no such version, or it holds files that are not the cache's.
        """

    @abstractmethod
    def health(self, fix: bool = False) -> list[Finding]:
        """Check the store of this version without long locks; an empty list if all is well.

        Args:
            fix: Repair what can be repaired without losing a good value; only what is the cache's own.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections; a later call opens them again."""

    def clear(self) -> None:
        """Remove all entries of this version."""
        if any(info.version == self.location.version for info in self.versions()):
            self.remove_version(self.location.version)

    def quarantine(self, key: str) -> None:
        """Take a damaged entry out of service; a backend may keep its bytes for a look.

        Another process may have replaced the entry by a good one meanwhile: one that can be unpacked (``cache/frame.py``) stays.
        """
        try:
            value = self.get(key)
            if value is not None:
                unpack(key, value)
        except CacheEntryError:
            self.delete(key)
