"""Folders of versions on a local disk: markers, live processes, removal. For backends that keep files.

::

    <cache.dir>/<backend>/v<schema>/<version>/
        version.json      our marker: manifest, budget, creation time
        ...               the backend's files
    <cache.dir>/<backend>/trash/    versions being removed
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocrsdk.cache.base import CacheLocation, Usage, VersionInfo
from ocrsdk.cache.frame import SCHEMA
from ocrsdk.errors import CacheEnvironmentError, CacheError, CacheForeignError, CacheStoreError

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no flock: every version then counts as in use
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ocrsdk.cache.base import CacheBackend

MARKER = "version.json"
_VERSION = re.compile(r"[0-9a-f]{16}")
_LEFTOVER = re.compile(r"(new|[0-9a-f]{16})-[0-9a-f]{32}")
_NETWORK = re.compile(r"nfs\d*|cifs|smb\w*|smbfs|lustre|gpfs|beegfs|ceph|afs|fuse\.(sshfs|s3fs|gcsfuse|rclone|glusterfs)")


def check_root(root: Path) -> None:
    """Refuse folders in which a cache can never be kept safely; creates nothing.

    Raises:
        CacheError: A file is in the way, anyone may write there, or it lies on a network file system.
    """
    if str(root) in ("", "."):
        raise CacheError("cache.dir is empty; name a folder, for instance cache.dir=~/.cache/ocrsdk")
    existing = next(path for path in (root, *root.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise CacheError(f"{existing}: is a file, not a folder; choose another cache.dir")
    if existing == root and root.stat().st_mode & stat.S_IWOTH:
        raise CacheError(f"{root}: anyone may write there, and so change what training reads. Try: chmod o-w {root}")
    kind = file_system(existing)
    if _NETWORK.fullmatch(kind):
        raise CacheError(
            f"{root}: lies on a network file system ({kind}), whose locks cannot be relied on; "
            "choose a local cache.dir, or a backend that is a server"
        )


def file_system(path: Path) -> str:
    """The type of the file system that holds ``path``, e.g. ``ext4``; an empty string where it cannot be told."""
    best, kind = "", ""
    with contextlib.suppress(OSError):
        real = os.path.realpath(path)
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
            _, mount, found, *_ = line.split(" ")
            mount = mount.replace("\\040", " ")
            if (real == mount or real.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best):
                best, kind = mount, found
    return kind


def environment_error(error: OSError, path: Path | str) -> CacheEnvironmentError:
    """``error`` with the file, and what to do about it."""
    advice = {
        errno.ENOSPC: "the disk is full, or out of inodes; free space, or: ocrsdk cache prune",
        errno.EDQUOT: "the disk quota is used up; free space, or: ocrsdk cache prune",
        errno.EMFILE: "too many open files; raise the limit (ulimit -n) or use fewer workers",
        errno.EACCES: "permission denied; check its owner and mode",
        errno.EROFS: "the file system is read-only",
    }.get(error.errno or 0, error.strerror or str(error))
    if error.errno == errno.ENOSPC:
        with contextlib.suppress(OSError):
            where = next(p for p in Path(path).absolute().parents if p.exists())
            if (status := os.statvfs(where)).f_files and not status.f_favail:
                advice = "no inodes are left on this file system (there is space): remove small files, or: ocrsdk cache prune"
    return CacheEnvironmentError(f"{path}: {advice}")


@dataclass(frozen=True)
class Marker:
    """What ``version.json`` says."""

    backend: str
    version: str
    manifest: dict[str, Any]
    budget: int
    created: float

    @classmethod
    def read(cls, folder: Path) -> Marker:
        """The marker of ``folder``.

        Raises:
            CacheStoreError: There is none, it is damaged, or newer than this code.
        """
        path = folder / MARKER
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            schema = int(document["schema"])
        except FileNotFoundError:
            raise CacheForeignError(f"{folder}: has no {MARKER}, so it is not a cache of ours; nothing is touched") from None
        except OSError as error:
            raise environment_error(error, path) from error
        except (ValueError, KeyError, TypeError):
            raise CacheStoreError(f"{path}: is damaged. Try: ocrsdk cache clear --version {folder.name}") from None
        if schema > SCHEMA:
            raise CacheForeignError(f"{path}: schema {schema} is newer than this ocrsdk knows ({SCHEMA}); it is left untouched")
        try:
            return cls(
                document["backend"], document["version"], document["manifest"], int(document["budget"]), float(document["created"])
            )
        except (KeyError, TypeError, ValueError):
            raise CacheStoreError(f"{path}: is damaged. Try: ocrsdk cache clear --version {folder.name}") from None

    def write(self, folder: Path) -> None:
        """Write it so that a crash leaves the old or the new one."""
        document = {
            "schema": SCHEMA, "backend": self.backend, "version": self.version, "budget": self.budget, "created": self.created,
            "manifest": self.manifest,
        }  # fmt: skip
        part = folder / f".{MARKER}.{uuid.uuid4().hex}"
        part.write_text(json.dumps(document, indent=1, sort_keys=True), encoding="utf-8")
        part.replace(folder / MARKER)


class VersionFolder:
    """The place of one version.

    Args:
        location: Root, version, manifest, budget.
        backend: Name of the backend.
    """

    def __init__(self, location: CacheLocation, backend: str) -> None:
        self.location, self.backend = location, backend
        self.base = location.folder / backend
        self.path = self.base / f"v{SCHEMA}" / location.version

    def create(self, fill: Callable[[Path], None]) -> None:
        """Create the version if it is missing: whole, or not at all, however many processes try at once.

        Args:
            fill: Makes the backend's files in the folder it is given.
        """
        if self.path.is_dir():
            return
        part = self.base / "trash" / f"new-{uuid.uuid4().hex}"
        try:
            self.location.folder.parent.mkdir(parents=True, exist_ok=True)
            for folder in (self.location.folder, self.base, self.path.parent, part.parent, part):
                folder.mkdir(mode=0o700, exist_ok=True)
            Marker(self.backend, self.location.version, dict(self.location.manifest), self.location.budget, time.time()).write(part)
            fill(part)
            part.rename(self.path)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            if not self.path.is_dir():
                raise environment_error(error, self.path) from error
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise

    def infos(self, open_version: Callable[[CacheLocation], CacheBackend]) -> list[VersionInfo]:
        """Every version beside this one, the newest use first; see ``CacheBackend.versions``.

        Args:
            open_version: Makes the backend of another version, to ask for its usage; it is closed again.
        """
        try:
            paths = version_folders(self.base)
        except OSError as error:
            raise environment_error(error, self.base) from error
        found = [info for path in paths if (info := self._info(path, open_version)) is not None]
        return sorted(found, key=lambda info: -info.used)

    def _info(self, path: Path, open_version: Callable[[CacheLocation], CacheBackend]) -> VersionInfo | None:
        """What is known of a version; None if it has been removed meanwhile."""
        used, in_use, outdated = 0.0, False, path.parent != self.path.parent
        problem = f"was made by an older ocrsdk (layout {path.parent.name}), and is not read any more" if outdated else ""
        try:
            with Hold.alone(path) as alone:
                in_use = not alone
            if (path / MARKER).exists():
                used = (path / MARKER).stat().st_mtime
            marker = Marker.read(path)
            here = CacheLocation(self.location.folder, path.name, marker.manifest, marker.budget)
            if outdated:
                usage = Usage(0, _size(path))
            else:
                with contextlib.closing(open_version(here)) as backend:
                    usage = backend.usage()
        except (CacheError, OSError) as error:
            if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where it may not look
                return None
            damaged = isinstance(error, CacheStoreError) and not isinstance(error, CacheForeignError)
            return VersionInfo(path.name, {}, Usage(0, 0), 0, 0.0, used, in_use, problem or str(error), damaged, outdated)
        return VersionInfo(
            path.name, marker.manifest, usage, marker.budget, marker.created, used, in_use, problem, outdated=outdated
        )  # fmt: skip

    def find(self, version: str) -> Path:
        """The folder of a version beside this one.

        Raises:
            CacheError: There is none.
        """
        for path in version_folders(self.base):
            if path.name == version:
                return path
        raise CacheError(f"no cache version {version!r}; see: ocrsdk cache status")

    def settle_budget(self) -> None:
        """Make the asked budget the version's; two live runs must not disagree.

        Raises:
            CacheError: Another live process uses the version with another budget.
        """
        marker = Marker.read(self.path)
        if marker.budget == self.location.budget or not os.access(self.path, os.W_OK):
            return
        deadline = time.monotonic() + 3  # a look at its health does not take longer
        while True:
            with Hold.alone(self.path) as alone:
                if alone:
                    Marker(marker.backend, marker.version, marker.manifest, self.location.budget, marker.created).write(self.path)
                    return
            if time.monotonic() > deadline:
                raise CacheError(
                    f"{self.path}: another run has it open with cache.budget={marker.budget}, this one asks for "
                    f"{self.location.budget}; give both the same, or wait for the other to end"
                )
            time.sleep(0.05)

    def mark_used(self) -> None:
        """Note that a run begins to use the version; looking at a cache is no use."""
        with contextlib.suppress(OSError):
            os.utime(self.path / MARKER)


class Hold:
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
        """Let go."""
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


def version_folders(base: Path) -> list[Path]:
    """The folders below ``base`` (``<cache.dir>/<backend>``) that are named like versions, of this schema and of older ones."""
    schemas = [base / f"v{number}" for number in range(1, SCHEMA + 1)]
    return sorted(path for schema in schemas if schema.is_dir() for path in schema.iterdir() if _VERSION.fullmatch(path.name))


def _size(folder: Path) -> int:
    """Bytes of the files in it; other processes may remove some meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def remove_version_folder(folder: Path, is_ours: Callable[[str], bool]) -> None:
    """Move a version aside, which is instant, then delete it; works on a full disk.

    Args:
        folder: The version's folder.
        is_ours: Whether a path relative to ``folder``, with ``/``, is one that the backend writes.

    Raises:
        CacheError: It has no marker, or holds files that are not ours; nothing is touched then.
    """
    if not (folder / MARKER).is_file():
        raise CacheForeignError(f"{folder}: has no {MARKER}, so it is not a cache of ours; nothing is touched")
    if foreign := list(foreign_files(folder, is_ours)):
        raise CacheError(f"{folder}: holds {len(foreign)} files that are not the cache's ({foreign[0]}); move them away first")
    trash = folder.parents[1] / "trash"
    aside = trash / f"{folder.name}-{uuid.uuid4().hex}"
    try:
        trash.mkdir(mode=0o700, exist_ok=True)
        folder.rename(aside)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise environment_error(error, folder) from error
        aside = folder  # no room even for a name: delete in place
    shutil.rmtree(aside, ignore_errors=True)
    if aside.exists():
        raise CacheEnvironmentError(f"{aside}: could not be removed whole; remove it by hand")


def leftovers(base: Path, grace: float = 3600) -> list[Path]:
    """Versions whose creation or removal was cut short by a killed process, an hour ago or longer."""
    trash, oldest = base / "trash", time.time() - grace
    found = []
    with contextlib.suppress(OSError):
        for path in trash.iterdir():
            if _LEFTOVER.fullmatch(path.name) and path.stat().st_mtime < oldest:
                found.append(path)
    return found


def foreign_files(folder: Path, is_ours: Callable[[str], bool]) -> Iterator[str]:
    """Paths relative to ``folder`` of files that are not ours."""
    for top, _, names in os.walk(folder):
        for name in names:
            path = os.path.relpath(os.path.join(top, name), folder).replace(os.sep, "/")  # noqa: PTH118 - many files
            if path != MARKER and not path.startswith(f".{MARKER}.") and not is_ours(path):
                yield path
