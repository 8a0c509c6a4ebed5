"""The cache backend ``none``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocrsdk.cache.base import CacheBackend, Finding, Severity, Usage, VersionInfo

if TYPE_CHECKING:
    from collections.abc import Iterator


class NullCache(CacheBackend):
    """Keeps nothing: every sample is prepared from its source."""

    name = "none"
    summary = "no cache: every sample is prepared from its source"

    @property
    def enabled(self) -> bool:
        """False: the store is not asked at all."""
        return False

    def get(self, key: str) -> None:
        """Nothing is kept, so there is never a value."""

    def set(self, key: str, value: bytes) -> bool:
        """Drop the value."""
        return False

    def delete(self, key: str) -> bool:
        """False: there was no value."""
        return False

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def usage(self) -> Usage:
        """Zero entries, zero bytes."""
        return Usage(0, 0)

    def versions(self) -> list[VersionInfo]:
        """An empty list: nothing has versions."""
        return []

    def remove_version(self, version: str) -> None:
        """There is nothing to remove."""

    def health(self, fix: bool = False) -> list[Finding]:
        """That there is no cache."""
        return [Finding(Severity.NOTE, "caching is off (backend none)", "switch it on with cache.backend=diskcache")]

    def close(self) -> None:
        """Nothing to do."""
