"""Counters: exact, per process, without a transaction.

Each process has one small file and writes a counter into it, in place, whenever it changes; readers sum the files. A killed process
loses nothing that it has counted.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"OCN1"


@dataclass
class Counts:
    """What happened to look-ups and writes. ``hits + regenerated`` is the number of look-ups."""

    hits: int = 0
    new: int = 0
    """Misses of things never seen."""
    stale_source: int = 0
    """Misses because the image file changed."""
    stale_annotation: int = 0
    """Misses because the annotation changed."""
    stale_other: int = 0
    """Misses of things that were cached under another key for another reason."""
    absent: int = 0
    """Misses of things that were noted and are gone: cleared, or never admitted."""
    corrupt: int = 0
    lost: int = 0
    """The index had an entry whose value was gone."""
    errors: int = 0
    """Look-ups that the environment prevented."""
    writes: int = 0
    not_admitted: int = 0
    """Writes beyond the budget."""
    write_errors: int = 0

    @property
    def stale(self) -> int:
        """Entries that would have been wrong to serve, and were not."""
        return self.stale_source + self.stale_annotation + self.stale_other

    @property
    def misses(self) -> int:
        """Look-ups that found nothing usable for a reason that is no damage."""
        return self.new + self.stale + self.absent

    @property
    def regenerated(self) -> int:
        """Look-ups after which the bytes had to be made again."""
        return self.misses + self.corrupt + self.lost + self.errors

    @property
    def accesses(self) -> int:
        """All look-ups."""
        return self.hits + self.regenerated

    @property
    def hit_rate(self) -> float | None:
        """Hits per look-up, 0 to 1; None without look-ups."""
        return self.hits / self.accesses if self.accesses else None

    def reasons(self) -> list[str]:
        """``12 stale annotation`` for each reason why bytes were made again, the most frequent first."""
        names = ("new", "stale_source", "stale_annotation", "stale_other", "absent", "corrupt", "lost", "errors")
        found = sorted(((getattr(self, name), name) for name in names), reverse=True)
        return [f"{count} {name.replace('_', ' ')}" for count, name in found if count]

    def as_dict(self) -> dict[str, object]:
        """All counters and the sums."""
        return asdict(self) | {
            "stale": self.stale, "misses": self.misses, "regenerated": self.regenerated, "accesses": self.accesses,
            "hit_rate": self.hit_rate,
        }  # fmt: skip

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Counts)))

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(Counts)))


_NAMES = tuple(f.name for f in fields(Counts))
_RECORD = struct.Struct(f"<4s4x{len(_NAMES)}Q")
_OFFSETS = {name: 8 + 8 * i for i, name in enumerate(_NAMES)}


class Counter:
    """The counters of one session: this process's own, and the sum over all of its processes.

    Args:
        folder: Where the files of all sessions of one version lie; None counts in memory only.
        session: Name of the run or command.
    """

    def __init__(self, folder: Path | None, session: str) -> None:
        self.folder, self.session = folder, session
        self.own = Counts()
        self._pid, self._fd = -1, -1

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "session": self.session, "own": Counts(), "_pid": -1, "_fd": -1}

    def add(self, name: str) -> None:
        """One more of ``name``, a field of ``Counts``."""
        if self._pid != os.getpid():
            self._open()
        count = getattr(self.own, name) + 1
        setattr(self.own, name, count)
        if self._fd >= 0:
            self._write(count.to_bytes(8, "little"), _OFFSETS[name])

    def _open(self) -> None:
        self._pid, self.own, self._fd = os.getpid(), Counts(), -1
        if self.folder is None:
            return
        with contextlib.suppress(OSError):
            folder = self.folder / self.session
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(folder / f"{self._pid}-{time.time_ns()}.count", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            self._write(_RECORD.pack(_MAGIC, *[0] * len(_NAMES)), 0)

    def _write(self, data: bytes, offset: int) -> None:
        try:
            os.pwrite(self._fd, data, offset)
        except OSError:  # a full disk must not cost more than the count
            os.close(self._fd)
            self._fd = -1

    def total(self) -> Counts:
        """The sum over all processes of this session."""
        if self.folder is None or (self._fd < 0 and self._pid == os.getpid()):
            return self.own
        return read_session(self.folder / self.session)

    def close(self) -> None:
        """Let go of the file; what it holds stays."""
        if self._fd >= 0 and self._pid == os.getpid():
            os.close(self._fd)
        self._fd = -1
        if self.folder is not None:
            self._pid = -1


def read_session(folder: Path) -> Counts:
    """The sum of a session's files; files that are no counters are not counted."""
    total = Counts()
    for path in _files(folder):
        with contextlib.suppress(OSError, struct.error):
            magic, *values = _RECORD.unpack(path.read_bytes())
            if magic == _MAGIC:
                total += Counts(*values)
    return total


def read_sessions(folder: Path) -> dict[str, tuple[Counts, float]]:
    """Session -> (sum, time of its last count in seconds since 1970), the newest first."""
    found = {}
    for session in _listed(folder):
        times = []
        for path in _files(session):
            with contextlib.suppress(OSError):
                times.append(path.stat().st_mtime)
        if times:
            found[session.name] = (read_session(session), max(times))
    return dict(sorted(found.items(), key=lambda item: -item[1][1]))


def _files(folder: Path) -> list[Path]:
    return [path for path in _listed(folder) if path.name.endswith(".count")]


def _listed(folder: Path) -> list[Path]:
    """What is in ``folder``; counters that cannot be listed must not cost more than the counts."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []
