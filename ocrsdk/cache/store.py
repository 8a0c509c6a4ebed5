"""``SampleCache``: what all backends have in common - frames, checks, reasons, counters, and what to do when something fails."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ocrsdk.cache.frame import FrameKind, kind_of, pack, unpack
from ocrsdk.cache.keys import EntryKey
from ocrsdk.cache.stats import Counter, Counts
from ocrsdk.errors import CacheEntryError, CacheEntryLostError, CacheError
from ocrsdk.fingerprint import differences
from ocrsdk.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ocrsdk.cache.base import CacheBackend

FAILURES_BEFORE_OFF = 3
"""After so many failures in a row that are the environment's, a process goes on without its cache."""


class Outcome(StrEnum):
    """What a look-up came to."""

    HIT = "hit"
    MISS = "miss"
    CORRUPT = "corrupt"
    ERROR = "error"


@dataclass(frozen=True)
class Lookup:
    """The answer to a look-up."""

    outcome: Outcome
    value: memoryview | None = None
    """The bytes, for a hit; checked."""
    reason: str = ""
    """Why it is no hit."""


class SampleCache:
    """Entries by ``EntryKey``, checked on every read.

    No failure of a cache stops a training run: it is counted, told once, and the sample is made from its source. A damaged entry is
    taken out of service and written again.

    Args:
        backend: Where the frames go.
        counter: Where events are counted.
    """

    def __init__(self, backend: CacheBackend, counter: Counter | None = None) -> None:
        self.backend = backend
        self.counter = counter or Counter(None, "memory")
        self._failures, self._told = 0, set[str]()

    def for_session(self, session: str) -> SampleCache:
        """The same cache, whose look-ups are counted under another name."""
        return SampleCache(self.backend, Counter(self.counter.folder, session))

    @property
    def enabled(self) -> bool:
        """False if nothing is kept, or if the environment failed too often in this process."""
        return self.backend.enabled and self._failures < FAILURES_BEFORE_OFF

    def get(self, key: EntryKey) -> Lookup:
        """Look ``key`` up; a miss comes with its reason. Raises nothing that a cache can cause."""
        found = self._get(key)
        self.counter.add(found[0])
        return found[1]

    def _get(self, key: EntryKey) -> tuple[str, Lookup]:
        try:
            value = self._call(self.backend.get, key.digest)
            if value is not None:
                body = unpack(key.digest, value)
                self._failures = 0
                return "hits", Lookup(Outcome.HIT, body)
            return self._why(key)
        except CacheEntryError as error:
            lost = isinstance(error, CacheEntryLostError)
            self._tell("entry", "damaged cache entry: made again from its source", origin=key.origin, reason=str(error))
            self._try_quarantine(key.digest)
            return "lost" if lost else "corrupt", Lookup(Outcome.CORRUPT, reason=str(error))
        except CacheError as error:
            self._fail("read", error)
            return "errors", Lookup(Outcome.ERROR, reason=str(error))

    def _why(self, key: EntryKey) -> tuple[str, Lookup]:
        try:
            before = self.last_parts(key)
        except CacheEntryError:
            self._try_quarantine(key.origin_digest)
            before = None
        if before is None:
            return "new", Lookup(Outcome.MISS, reason="not seen before")
        changed = differences(before, key.parts)
        if not changed:
            return "absent", Lookup(Outcome.MISS, reason="made before, but not in the cache: beyond the budget, or removed")
        name = "stale_other"
        if changed[0].startswith("annotation:"):
            name = "stale_annotation"
        elif any(change.startswith("source.") for change in changed):
            name = "stale_source"
        return name, Lookup(Outcome.MISS, reason="; ".join(changed))

    def last_parts(self, key: EntryKey) -> Mapping[str, Any] | None:
        """The parts of the newest key that was set for the same origin, or None.

        Raises:
            CacheError: It cannot be read.
        """
        value = self._call(self.backend.get, key.origin_digest)
        if value is None:
            return None
        note = read_note(key.origin_digest, value)
        return note.parts if note is not None else None

    def set(self, key: EntryKey, value: bytes | memoryview) -> bool:
        """Keep ``value``. False if it was not kept: beyond the budget, or the environment failed.

        An earlier state of the same origin is removed, unless keys go by content and others may share it.
        """
        if not self.enabled:
            return False
        try:
            if self.backend.read_only:
                folder = str(self.backend.location.folder)
                self._tell("read only", "the cache is read-only: new samples are not kept", folder=folder)
                return False
            before = self.last_parts(key)
        except CacheEntryError:
            self._try_quarantine(key.origin_digest)
            before = None
        except CacheError as error:
            self._fail("write", error)
            self.counter.add("write_errors")
            return False
        try:
            if before is not None and before != key.parts and "path" in before.get("source", {}):
                self._call(self.backend.delete, EntryKey(key.origin, before).digest)
            kept: bool = self._call(self.backend.set, key.digest, pack(key.digest, value))
            if before != key.parts:
                note = json.dumps({"origin": key.origin, "parts": key.parts}, separators=(",", ":")).encode("ascii")
                self._call(self.backend.set, key.origin_digest, pack(key.origin_digest, note, FrameKind.NOTE))
            self._failures = 0
        except CacheError as error:
            self._fail("write", error)
            self.counter.add("write_errors")
            return False
        if not kept:
            self._tell(
                "budget", "the cache is full: further samples are made from their sources", budget=self.backend.location.budget
            )
        self.counter.add("writes" if kept else "not_admitted")
        return kept

    def switch_off(self) -> None:
        """Go on without the cache."""
        self._failures = FAILURES_BEFORE_OFF

    def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """A method of the backend; what a third party's may raise against the contract costs the cache, not the run."""
        try:
            return method(*arguments)
        except CacheError:
            raise
        except Exception as error:
            name = self.backend.name
            raise CacheError(f"the cache backend {name!r} failed in {method.__name__}: {type(error).__name__}: {error}") from error

    def _try_quarantine(self, digest: str) -> None:
        try:
            self._call(self.backend.quarantine, digest)
        except CacheError as error:
            self._fail("write", error)

    def _fail(self, what: str, error: CacheError) -> None:
        self._failures += 1
        self._tell(what, f"cache {what} failed: samples are made from their sources", reason=str(error))
        if self._failures == FAILURES_BEFORE_OFF:
            self._tell("off", "this process goes on without its cache", after_failures=self._failures)

    def _tell(self, kind: str, message: str, **details: Any) -> None:
        """One warning of each kind per process."""
        if kind not in self._told:
            self._told.add(kind)
            get_logger(__name__).warning(message, **details)

    def counts(self) -> Counts:
        """The sum over all processes of this session."""
        return self.counter.total()

    def close(self) -> None:
        """Let go of files; a later call opens them again."""
        self.backend.close()
        self.counter.close()


def read_note(key: str, frame: bytes | memoryview) -> EntryKey | None:
    """The key that a note tells of: that of the newest entry of an origin. None if the frame holds a value.

    Raises:
        CacheEntryError: The frame is damaged.
    """
    body = unpack(key, frame)
    if kind_of(frame) is not FrameKind.NOTE:
        return None
    document = json.loads(bytes(body))
    return EntryKey(document["origin"], document["parts"])
