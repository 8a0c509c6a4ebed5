"""The cache backend ``none``."""

from __future__ import annotations

from ocrsdk.cache.base import CacheBackend


class NullCache(CacheBackend):
    """Keeps nothing: every sample is prepared from its source."""

    name = "none"
    summary = "no cache: every sample is prepared from its source"

    @property
    def enabled(self) -> bool:
        """False."""
        return False

    def get(self, key: str) -> bytes | None:
        """None."""
        return None

    def set(self, key: str, value: bytes) -> None:
        """Drop the value."""

    def close(self) -> None:
        """Nothing to do."""
