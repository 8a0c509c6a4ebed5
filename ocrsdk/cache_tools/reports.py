"""What ``CacheControl`` answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from ocrsdk.cache.base import Finding, VersionInfo
    from ocrsdk.cache.stats import Counts

State = Literal["healthy", "degraded", "broken", "absent"]


@dataclass(frozen=True)
class CacheHealth:
    """Whether a cache can be relied on, from what is really there."""

    state: State
    """``absent`` if there is no cache to judge."""
    folder: Path
    backend: str
    cache_version: str
    """The version that the given settings lead to."""
    versions: int
    entries: int
    bytes: int
    counts: Counts
    """Of all sessions of the current version."""
    checksums_checked: int
    findings: list[Finding]

    @property
    def exit_code(self) -> int:
        """0 healthy, 1 degraded or absent, 2 broken."""
        return {"healthy": 0, "degraded": 1, "absent": 1, "broken": 2}[self.state]

    def as_dict(self) -> dict[str, object]:
        """A JSON-ready form."""
        rate = self.counts.hit_rate
        return {
            "state": self.state,
            "folder": str(self.folder),
            "backend": self.backend,
            "cache_version": self.cache_version,
            "hit_rate_percent": None if rate is None else round(100 * rate, 2),
            "total_accesses": self.counts.accesses,
            "cache_hits": self.counts.hits,
            "cache_misses": self.counts.regenerated,
            "versions": self.versions,
            "entries": self.entries,
            "bytes": self.bytes,
            "checksums_checked": self.checksums_checked,
            "counts": self.counts.as_dict(),
            "findings": [asdict(finding) for finding in self.findings],
        }


@dataclass(frozen=True)
class VersionStatus:
    """A version, and how it relates to the current settings."""

    info: VersionInfo
    current: bool
    """Whether it is the one that the given settings lead to."""
    differs: list[str]
    """In what its settings differ from the given ones; empty for a version of another owner."""
    stale_because: list[str]
    """Why no run will use it any more: code, libraries or its layout have changed, or it was not used for ``cache.max_age``."""
    sessions: dict[str, tuple[Counts, float]]
    """Run or command that used it -> counts, and time of the last one."""

    @property
    def stale(self) -> bool:
        """Whether no run will use it any more; a ``CachedDataset`` judges its versions itself."""
        return bool(self.stale_because)


@dataclass(frozen=True)
class CacheStatus:
    """All versions in a cache."""

    folder: Path
    backend: str
    version: str
    versions: list[VersionStatus]

    def as_dict(self) -> dict[str, object]:
        """A JSON-ready form."""
        return {
            "folder": str(self.folder),
            "backend": self.backend,
            "cache_version": self.version,
            "versions": [
                v.info.as_dict()
                | {
                    "current": v.current,
                    "differs": v.differs,
                    "stale": v.stale,
                    "stale_because": v.stale_because,
                    "sessions": {name: counts.as_dict() | {"last": last} for name, (counts, last) in v.sessions.items()},
                }
                for v in self.versions
            ],
        }


@dataclass
class Validation:
    """What ``validate`` found."""

    entries: int = 0
    checksums: int = 0
    compared: int = 0
    """Entries made again from their sources, and equal byte for byte unless listed."""
    outdated: int = 0
    """Entries whose source or annotation has changed or gone since: never served, so not compared."""
    identity: str = "path"
    """What tells one state of an image file from another: ``cache.identity``."""
    damaged: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Explanation:
    """Whether one kind of entry of an image is a hit, and why not."""

    kind: str
    hit: bool
    key: str
    parts: dict[str, Any]
    changed: list[str]
    """Differences to the entry that was kept last in this version."""
    reason: str
    elsewhere: dict[str, list[str]] = field(default_factory=dict)
    """Other version in which the image is kept -> what tells it apart."""


@dataclass(frozen=True)
class CodecCost:
    """What one compression costs, for a page or its target maps: medians."""

    codec: str
    bytes: int
    encode_us: float
    write_us: float
    read_us: float
    """Look-up, checksum and decoding to arrays."""


@dataclass(frozen=True)
class CacheBench:
    """Making against keeping, on this data and this disk: medians over pages."""

    pages: int
    decode_us: float
    prepare_us: float
    maps_us: float
    """Target maps of a whole page; those of random views are never kept."""
    codecs: list[CodecCost]
    """Counts of pages, not of entries."""
    maps_codecs: list[CodecCost]
    """Of target maps."""
    verdict: str

    def as_dict(self) -> dict[str, object]:
        """A JSON-ready form."""
        return asdict(self)
