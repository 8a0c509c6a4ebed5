"""Who has a version open: a lock that goes with its process."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from ocrsdk.cache.file_system import environment_error
from ocrsdk.errors import CacheEnvironmentError

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no flock: every version then counts as in use
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class VersionLock:
    """A shared lock that says "a live process has this version open"; also notices when the version has been removed.

    The lock is on the folder itself, so that nothing has to be written, and it goes with the process however that ends.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self._fd = os.open(folder, os.O_RDONLY)
        except OSError as error:
            raise environment_error(error, folder) from error
        deadline = time.monotonic() + 5
        while fcntl is not None:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except OSError:  # looked at, repaired or removed by another process
                if time.monotonic() > deadline:
                    os.close(self._fd)
                    raise CacheEnvironmentError(f"{folder}: is being repaired or removed by another process") from None
                time.sleep(0.002)
        status = os.fstat(self._fd)
        self._identity = (status.st_dev, status.st_ino)

    def still_there(self) -> bool:
        """False once the folder has been removed, moved or replaced."""
        try:
            status = os.stat(self.folder)  # noqa: PTH116 - a microsecond on every write
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def close(self) -> None:
        """Release the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @staticmethod
    @contextlib.contextmanager
    def alone(folder: Path) -> Iterator[bool]:
        """True inside, if no live process has ``folder`` open; then none can open it meanwhile."""
        fd = os.open(folder, os.O_RDONLY)
        try:
            alone = False
            if fcntl is not None:
                with contextlib.suppress(OSError):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    alone = True
            yield alone
        finally:
            os.close(fd)
