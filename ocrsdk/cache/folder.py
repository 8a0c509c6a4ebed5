"""Folders of versions on a local disk: markers, listing, removal. For backends that keep files.

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
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ocrsdk.cache.base import CacheLocation, Usage, VersionInfo
from ocrsdk.cache.file_system import environment_error
from ocrsdk.cache.frame import SCHEMA
from ocrsdk.cache.lock import VersionLock
from ocrsdk.errors import CacheEnvironmentError, CacheError, CacheForeignError, CacheStoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ocrsdk.cache.base import CacheBackend

MARKER = "version.json"
_VERSION = re.compile(r"[0-9a-f]{16}")
_LEFTOVER = re.compile(r"(new|[0-9a-f]{16})-[0-9a-f]{32}")


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
            with VersionLock.alone(path) as alone:
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
            with VersionLock.alone(self.path) as alone:
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
