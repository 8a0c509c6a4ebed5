"""Fingerprints of documents, and how two of them differ: what versions, keys and certificates are made of."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def canonical_json(document: Mapping[str, object]) -> str:
    """One text for equal documents: sorted keys, no spaces, no NaN."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(document: Mapping[str, object]) -> str:
    """The first 16 hex digits of the SHA-256 of the document as canonical JSON; names a version."""
    return sha256(document)[:16]


def differences(old: Mapping[str, object], new: Mapping[str, object], prefix: str = "") -> list[str]:
    """``name: old -> new`` for each leaf in which two documents differ, in alphabetical order."""
    return list(_differences(old, new, prefix))


def _differences(old: Mapping[str, object], new: Mapping[str, object], prefix: str) -> Iterator[str]:
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f"{prefix}{key}.")
        elif a != b or (key in old) != (key in new):
            yield f"{prefix}{key}: {_shown(a, key in old)} -> {_shown(b, key in new)}"


def _shown(value: object, present: bool) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False) if present else "absent"


def sha256(document: Mapping[str, object]) -> str:
    """64 hex digits: the SHA-256 of the document as canonical JSON."""
    return hashlib.sha256(canonical_json(document).encode("utf-8", "surrogatepass")).hexdigest()
