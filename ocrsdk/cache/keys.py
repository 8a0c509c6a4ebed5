"""Versions and keys: fingerprints of everything that changes the bytes, kept so that a difference can be explained."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def canonical_json(document: Mapping[str, Any]) -> str:
    """One text for equal documents: sorted keys, no spaces, no NaN."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(document: Mapping[str, Any]) -> str:
    """The first 16 hex digits of the SHA-256 of the document as canonical JSON; names a version."""
    return _sha256(document)[:16]


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``name: old -> new`` for each leaf in which two documents differ, in alphabetical order."""
    return list(_differences(old, new, prefix))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f"{prefix}{key}.")
        elif a != b or (key in old) != (key in new):
            yield f"{prefix}{key}: {_shown(a, key in old)} -> {_shown(b, key in new)}"


def _shown(value: object, present: bool) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False) if present else "absent"


def _sha256(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(document).encode("utf-8", "surrogatepass")).hexdigest()


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
        object.__setattr__(self, "digest", _sha256({"parts": self.parts}))

    @property
    def origin_digest(self) -> str:
        """64 hex digits: where the newest key of this origin is noted."""
        return _sha256({"origin": self.origin})
