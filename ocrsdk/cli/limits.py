"""What the machine has run out of, in one line."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_REMEDIES = {
    errno.ENOSPC: "no space is left: make room",
    errno.EDQUOT: "your quota of the disk is used up: make room",
    errno.EFBIG: "a file would become larger than is allowed here: see ulimit -f",
    errno.EMFILE: "too many files are open: allow more with ulimit -n 4096, or use fewer --workers",
    errno.ENFILE: "too many files are open on this machine: end other programs, or use fewer --workers",
    errno.ENOMEM: "memory ran out: use a smaller data.batch_size or fewer --workers",
    errno.EAGAIN: "no more processes or threads are allowed here: see ulimit -u, or use fewer --workers",
    errno.EIO: "the disk has failed to read or write",
    errno.EROFS: "the disk is read-only",
}
_MEMORY = (
    "can't allocate memory", "cannot allocate memory", "out of memory", "std::bad_alloc", "failed to map segment",
    "could not create a primitive",
)  # fmt: skip
_FILES = ("too many open files", "received 0 items of ancdata")


def exhausted(error: BaseException) -> str | None:
    """What has run out, if that is what ``error``, or one that it came from, is about."""
    for cause in _chain(error):
        text = str(cause).lower()
        if isinstance(cause, OSError) and cause.errno in _REMEDIES:
            where = f"{cause.filename}: " if cause.filename else ""
            return f"{where}{_REMEDIES[cause.errno]}"
        if text.startswith("caught ") and (number := re.search(r"\[errno (\d+)\][^\n]*$", text.rstrip())):  # in a loader process
            return _REMEDIES.get(int(number[1]))
        if isinstance(cause, MemoryError) or any(words in text for words in _MEMORY):
            return _REMEDIES[errno.ENOMEM]
        if isinstance(cause, RuntimeError) and any(words in text for words in _FILES):
            return _REMEDIES[errno.EMFILE]
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__
