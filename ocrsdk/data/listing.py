"""What lies in folders. Each is looked at once, and whether anything there has changed can be told later."""

from __future__ import annotations

import hashlib
import os
import stat
import unicodedata
from array import array
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ocrsdk.data.workers import available_cpus
from ocrsdk.errors import DataError
from ocrsdk.processes import in_processes

if TYPE_CHECKING:
    from collections.abc import Mapping

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
_KNOWN_SUFFIXES = IMAGE_SUFFIXES | {".txt", ".csv", ".json", ".xml"}
GONE = -1
"""The state of a file that cannot be looked at: a link that leads nowhere."""
_NO_FILE = -2
"""That of a pipe, a socket or a device."""


def state_of(status: os.stat_result) -> int:
    """A number that changes with a file's size, times or inode."""
    return hash((status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)) & (2**63 - 1)


def file_state(path: Path | str) -> int:
    """``state_of`` a file; ``GONE`` if it cannot be looked at."""
    try:
        return state_of(os.stat(path))  # noqa: PTH116 - a million of them, and a Path costs as much as the call
    except OSError:
        return GONE


class Listing:
    """The visible files of a folder, sorted by name, and its visible sub-folders.

    Pipes and sockets are left out, since a reader would wait for them; links that lead nowhere are files, so that they are told.

    Args:
        path: The folder.

    Raises:
        DataError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        folders, names = list[str](), list[str]()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    name = entry.name
                    if name[0] == ".":
                        continue
                    try:
                        is_folder = entry.is_dir()
                    except OSError:  # a loop of links
                        is_folder = False
                    (folders if is_folder else names).append(name)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        names.sort()
        folders.sort()
        states, newest = _look_at(str(path), names)
        if _NO_FILE in states:
            kept = [at for at, state in enumerate(states) if state != _NO_FILE]
            names, states = [names[at] for at in kept], array("q", [states[at] for at in kept])
        self.files, self.folders = names, folders
        self.states = states
        """``state_of`` each of ``files``."""
        self.newest = newest
        """When the newest file was written or moved here, in nanoseconds."""
        self._images: list[str] | None = None
        self._by_plain: dict[str, int] | None = None

    @property
    def images(self) -> list[str]:
        """Those of ``files`` that are images by their ending."""
        if self._images is None:
            self._images = [name for name in self.files if suffix_of(name) in IMAGE_SUFFIXES]
        return self._images

    def image(self, name: str) -> int | None:
        """Where in ``files`` the image of a name stands, its ending in whatever case; None if there is none."""
        if self._by_plain is None:
            self._by_plain = {}
            for at, file in enumerate(self.files):
                if file[file.rfind(".") :] in IMAGE_SUFFIXES and file.isascii():
                    self._by_plain[file] = at
                elif suffix_of(file) in IMAGE_SUFFIXES:
                    self._by_plain[file] = at  # two names may differ in their endings' case alone
                    self._by_plain.setdefault(plain_name(file), at)
        found = self._by_plain.get(name)
        return found if found is not None else self._by_plain.get(plain_name(name))

    def digest(self) -> str:
        """32 hex digits that change with any name or state."""
        names = "/".join((*self.files, "", *self.folders)).encode("utf-8", "surrogateescape")
        return hashlib.blake2b(names + b"//" + self.states.tobytes(), digest_size=16).hexdigest()


_AT_ONCE = 50_000
"""Files that one process looks at."""


def _look_at(folder: str, names: list[str]) -> tuple[array[int], int]:
    """The state of each file, and when the newest of them was written, by all CPUs if there are many."""
    jobs = -(-len(names) // _AT_ONCE)
    states, newest = array("q"), 0

    def look(job: int) -> tuple[array[int], int]:
        return _states(folder, names[job * _AT_ONCE : (job + 1) * _AT_ONCE])

    for some, youngest in in_processes(look, jobs, available_cpus()):
        states.extend(some)
        newest = max(newest, youngest)
    return states, newest


def _states(folder: str, names: list[str]) -> tuple[array[int], int]:
    states, newest = array("q"), 0
    for name in names:
        try:
            status = os.stat(f"{folder}/{name}")  # noqa: PTH116 - a million of them, and a Path costs as much as the call
        except OSError:
            states.append(GONE)
            continue
        if not stat.S_ISREG(status.st_mode):
            states.append(_NO_FILE)
            continue
        states.append(state_of(status))
        if status.st_ctime_ns > newest:
            newest = status.st_ctime_ns
    return states, newest


class Folders:
    """Folders that were looked at, and single files."""

    def __init__(self) -> None:
        self._listed: dict[str, Listing | None] = {}
        self._files: dict[str, int] = {}
        self._newest = 0

    def list(self, folder: Path) -> Listing:
        """What lies in ``folder``.

        Raises:
            DataError: It cannot be read.
        """
        key = str(folder.absolute())
        if key not in self._listed:
            self._listed[key] = None
            self._listed[key] = Listing(folder)
        found = self._listed[key]
        if found is None:
            raise DataError(f"{folder}: cannot be read")
        return found

    def note(self, file: Path) -> None:
        """A file that is read by itself."""
        self._files[str(file.absolute())] = file_state(file)
        with suppress(OSError):
            self._newest = max(self._newest, file.stat().st_ctime_ns)

    def digests(self) -> dict[str, str]:
        """Everything that was looked at, with what changes when it does; empty where nothing was there."""
        found = {f"{key}/": listing.digest() if listing is not None else "" for key, listing in self._listed.items()}
        return found | {key: f"{state:x}" for key, state in self._files.items()}

    @property
    def newest(self) -> int:
        """When the newest file was written or moved to where it is, in nanoseconds."""
        return max([self._newest, *(listing.newest for listing in self._listed.values() if listing is not None)])

    def are_as(self, digests: Mapping[str, str]) -> bool:
        """Whether everything is as it was; what is looked at for it is kept."""
        for key, digest in digests.items():
            if key.endswith("/"):
                try:
                    now = self.list(Path(key)).digest()
                except DataError:
                    now = ""
            else:
                now = f"{file_state(key):x}"
            if now != digest:
                return False
        return True


def find_images(folder: Path) -> list[Path]:
    """Image files directly in ``folder``, sorted by name.

    Raises:
        DataError: The folder cannot be read.
    """
    return [folder / name for name in Listing(folder).images]


def other_files(folder: Path) -> list[str]:
    """What else lies in a folder of images, sorted, with ``/`` behind sub-folders; hidden names and systems' own do not count."""
    images = set(Listing(folder).images)
    with os.scandir(folder) as entries:
        names = {entry.name + ("/" if entry.is_dir() else "") for entry in entries if not entry.name.startswith(".")}
    return sorted(names - images - {"Thumbs.db", "desktop.ini"})


def suffix_of(name: str) -> str:
    """The ending of a name in lower case, with its dot; empty if it has none, or is nothing else."""
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem and suffix else ""


def plain_name(name: str) -> str:
    """The name, the same on every system: composed characters, endings in lower case."""
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    dot = name.rfind(".")
    if dot > 0 and name[dot:] in IMAGE_SUFFIXES:
        return name
    suffix = suffix_of(name)
    if suffix not in _KNOWN_SUFFIXES:
        return name
    stem = name[: -len(suffix)]
    if suffix == ".txt" and suffix_of(stem) in IMAGE_SUFFIXES:
        stem = plain_name(stem)
    return stem + suffix
