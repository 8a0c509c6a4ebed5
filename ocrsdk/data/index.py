"""What was read of a data set is kept, and used again as long as nothing in it has changed.

::

    <cache.dir>/indexes/<key>/
        index.json     how it was read, what was looked at, the report, checksums
        *.npy          the pages, see ``table``; mapped when they are used

The key names how labels were read; ``index.json`` has, for each folder that was looked at, a digest of the name, size, times and
inode of every file in it. If one differs, all is read again.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import PIL

from ocrsdk.data.listing import Folders
from ocrsdk.data.preparation import opencv_version
from ocrsdk.data.table import PageTable
from ocrsdk.fingerprint import fingerprint
from ocrsdk.logs import get_logger
from ocrsdk.plugins.manager import installed
from ocrsdk.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Report = TypeVar("Report")

FOLDER = "indexes"
_SCHEMA = 2
_SETTLED = 1_000_000_000
"""Nanoseconds for which a file has to be at rest: one that is written twice within a tick of the clock looks the same."""


@dataclass(frozen=True)
class PageIndexes:
    """The indexes in a folder.

    Args:
        folder: ``<cache.dir>/indexes``.
    """

    folder: Path

    def load(self, how: Mapping[str, object], told: Callable[[dict[str, Any]], Report]) -> tuple[PageTable, Report] | None:
        """The pages that were read that way, and the report about them; None if there are none, or if something has changed.

        Args:
            how: Everything that decides what is read, JSON-ready; see ``manner``.
            told: Makes the report of what was kept of it.
        """
        place = self.folder / fingerprint(how)
        try:
            document = json.loads((place / "index.json").read_text(encoding="utf-8"))
            if document["how"] != how or not Folders().are_as(document["looked_at"]):
                return None
            table = PageTable.mapped(place)
            if _checksums(table) != document["checksums"]:
                raise ValueError("a file has other bytes than were written")
            return table, told(document["report"])
        except FileNotFoundError:
            return None
        except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
            get_logger(__name__).warning(
                "the index of a data set is damaged; labels are read again", folder=str(place), reason=str(error)
            )
            return None

    def keep(
        self, how: Mapping[str, object], table: PageTable, report: Mapping[str, object], folders: Folders, began: int
    ) -> PageTable:
        """Keep what was read; returns the same pages, mapped, or as they are if they cannot be kept.

        Args:
            how: As for ``load``.
            table: The pages.
            report: About them, JSON-ready.
            folders: What was looked at.
            began: When that began, in nanoseconds; files that were written then are not at rest, so nothing is kept.
        """
        if folders.newest > began - _SETTLED:
            return table
        place, new = self.folder / fingerprint(how), self.folder / f"new-{uuid.uuid4().hex}"
        document = {"how": how, "looked_at": folders.digests(), "report": report, "checksums": _checksums(table)}
        try:
            new.mkdir(parents=True)
            table.save(new)
            (new / "index.json").write_text(json.dumps(document), encoding="utf-8")
            if place.exists():
                place.rename(self.folder / f"old-{uuid.uuid4().hex}")
            new.rename(place)
            mapped = PageTable.mapped(place)
        except (OSError, ValueError) as error:
            shutil.rmtree(new, ignore_errors=True)
            get_logger(__name__).warning("the index of a data set cannot be kept", folder=str(self.folder), reason=str(error))
            return table
        with suppress(OSError):  # other processes do the same
            self._sweep()
        return mapped

    def kept(self) -> list[Path]:
        """The folder of each."""
        return sorted(path.parent for path in self.folder.glob("*/index.json"))

    def _sweep(self) -> None:
        """Remove what is of no use: replaced ones, half-written ones, those of data sets that are gone."""
        for place in self.folder.iterdir():
            if place.name.startswith(("old-", "new-")):
                useless = place.name.startswith("old-") or place.stat().st_mtime < time.time() - 3600
            else:
                try:
                    useless = not Path(json.loads((place / "index.json").read_text(encoding="utf-8"))["how"]["root"]).exists()
                except (OSError, ValueError, KeyError, TypeError):
                    useless = False
            if useless:
                shutil.rmtree(place, ignore_errors=True)


def manner(root: Path, images: Path | None, **policies: object) -> dict[str, object]:
    """Everything that decides what is read of a data set, JSON-ready: where (as written, and as meant), how, and by what."""
    classes = installed().classes("annotation format")
    programs = {name: installed().distribution("annotation format", name) for name in sorted(classes)}
    files = {inspect.getsourcefile(kind) for kind in classes.values()} - {None}
    code = sorted({*Path(__file__).parent.glob("*.py"), *(Path(str(file)) for file in files)})
    document = {
        "root": str(root.absolute()), "written": [str(root), str(images)], "images": str(images.absolute()) if images else None,
        "policies": policies,
        "program": {
            "schema": _SCHEMA, "ocrsdk": __version__, "code": _digest_of(code), "formats": programs,
            "opencv": opencv_version(), "pillow": PIL.__version__, "numpy": np.__version__,
        },
    }  # fmt: skip
    ready: dict[str, object] = json.loads(json.dumps(document, default=str))
    return ready


def _digest_of(files: Sequence[Path]) -> str:
    """32 hex digits that change with any of some files: a plug-in may be edited without a new version."""
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _checksums(table: PageTable) -> dict[str, str]:
    return {name: hashlib.blake2b(values.data, digest_size=16).hexdigest() for name, values in table.arrays.items()}
