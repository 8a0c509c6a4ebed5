"""Keys: what one entry holds, and what it depends on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ocrsdk.fingerprint import sha256

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class EntryKey:
    """What one entry holds.

    Two keys of the same ``origin`` and different ``parts`` are two states of one thing: the later one replaces the earlier.
    """

    origin: str
    """What the entry was made from, e.g. ``image <how it was prepared> /data/page.jpg``."""
    parts: Mapping[str, Any]
    """Everything that the bytes depend on besides the version, JSON-ready."""
    digest: str = field(init=False)
    """64 hex digits: the key in the backend. ``origin`` takes part only as far as ``parts`` repeats it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", sha256({"parts": self.parts}))

    @property
    def origin_digest(self) -> str:
        """64 hex digits: where the newest key of this origin is noted."""
        return sha256({"origin": self.origin})
