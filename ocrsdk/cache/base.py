"""The contract of cache backends: bytes in, bytes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocrsdk.plugin_base import Plugin

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel


@dataclass(frozen=True)
class CacheLocation:
    """Where a cache keeps its values, and for which version of the preparation."""

    folder: Path
    version: str
    """Values written under one version are never read under another."""


class CacheBackend(Plugin, ABC):
    """Stores values under keys, for one location.

    An instance is created in the main process and travels to data-loader workers, by fork or by pickle, before its first use:
    open files and connections on first use, per process.

    Args:
        location: Folder and version.
        options: The validated ``Options``, if the class has any.
    """

    def __init__(self, location: CacheLocation, options: BaseModel | None = None) -> None:
        super().__init__(options)
        self.location = location

    @property
    def enabled(self) -> bool:
        """False for a backend that keeps nothing: callers then skip the work of encoding."""
        return True

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """The value, exactly as it was set, or None when there is none."""

    @abstractmethod
    def set(self, key: str, value: bytes) -> None:
        """Keep ``value`` under ``key``."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections; a later call opens them again."""
