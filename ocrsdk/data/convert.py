"""A data set in another annotation format: what the target can hold is kept exactly, what it cannot is counted."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from ocrsdk.data.folder import DataReport, labels_of
from ocrsdk.data.image import check_image
from ocrsdk.data.layout import find_pages
from ocrsdk.data.overview import divide, near_duplicates
from ocrsdk.errors import DataError
from ocrsdk.formats.base import IGNORE_MARK, PageToWrite
from ocrsdk.formats.make import make_format
from ocrsdk.geometry import is_valid
from ocrsdk.plugins.manager import call

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocrsdk.data.layout import Progress
    from ocrsdk.formats.base import AnnotationFormat
    from ocrsdk.settings.sections import OnBadBox, OnBadSample
    from ocrsdk.types import TextInstance

Pictures = Literal["link", "copy", "none"]


@dataclass
class Conversion:
    """What was written."""

    folder: Path
    source: tuple[str, ...]
    target: str
    pages: int = 0
    regions: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    """What the target could not hold: how many regions or pages, by a sentence that says what became of them."""
    skipped: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "folder": str(self.folder), "from": list(self.source), "to": self.target, "pages": self.pages, "regions": self.regions,
            "lost": dict(self.lost), "skipped": self.skipped, "dropped": self.dropped,
        }  # fmt: skip


def convert(
    source: Path,
    folder: Path,
    to: str,
    *,
    format: str | None = None,
    options: Mapping[str, object] | None = None,
    to_options: Mapping[str, object] | None = None,
    images: Path | None = None,
    pictures: Pictures = "link",
    on_bad_sample: OnBadSample = "stop",
    on_bad_box: OnBadBox = "stop",
    progress: Progress | None = None,
) -> Conversion:
    """Write the labels of a data set in another format, with its images beside them in ``images/``.

    Args:
        source: A folder or a label file.
        folder: Where the new set goes; it must not exist, or be empty.
        to: The annotation format.
        format: That of the source; recognised if None.
        options: Of the source's format.
        to_options: Of the target's.
        images: Where the images of the source lie, if it cannot be guessed.
        pictures: ``link`` makes symbolic links to the images, ``copy`` copies them, ``none`` leaves them out.
        on_bad_sample: As for ``load_annotations``.
        on_bad_box: As for ``load_annotations``.
        progress: Wraps the images.

    Raises:
        DataError: A sample cannot be used, or the folder cannot be written.
    """
    kind = make_format(to, to_options)
    _check_free(folder)
    layout = find_pages(source, format, options, images)
    done = Conversion(folder, tuple(dict.fromkeys(entry.kind.name for entry in layout.entries)), to)
    report = DataReport(source)
    problems: list[DataError] = list(layout.problems)
    pages, names = list[PageToWrite](), dict[str, Path]()
    paths = (entry.image for entry in layout.entries)
    for entry, _ in zip(layout.entries, progress(paths, len(layout.entries)) if progress else paths, strict=True):
        try:
            annotation, size = labels_of(entry, report, on_bad_box), check_image(entry.image)
        except DataError as error:
            problems.append(error)
            continue
        name = entry.image.name
        if (other := names.setdefault(name, entry.image)) != entry.image:
            raise DataError(f"{entry.image}: has the name of {other}; images of one set need different names here: rename one")
        pages.append(PageToWrite(name, f"images/{name}", entry.image, size, annotation.instances))
    if problems and on_bad_sample == "stop":
        more = f" ({len(problems) - 1} more such problems)" if len(problems) > 1 else ""
        raise type(problems[0])(f"{problems[0]}{more}. To leave such samples out: --on-bad-sample skip")
    done.skipped, done.dropped = list(map(str, problems)), report.dropped
    fitted = [fit(page, kind, done.lost) for page in pages]
    done.pages, done.regions = len(fitted), sum(len(page.instances) for page in fitted)
    write_set({kind: fitted}, folder, pictures)
    return done


def fit(page: PageToWrite, kind: AnnotationFormat, lost: Counter[str]) -> PageToWrite:
    """The page with what a format can hold; the rest is counted in ``lost``."""
    kept = []
    for instance in page.instances:
        if (fitted := _fit(instance, kind, lost)) is not None:
            kept.append(fitted)
    if not kept and not kind.holds.empty_pages:
        lost["pages without text: the format cannot tell them"] += 1
    return replace(page, instances=kept)


def _fit(instance: TextInstance, kind: AnnotationFormat, lost: Counter[str]) -> TextInstance | None:
    holds = kind.holds
    polygon, text = instance.polygon, instance.text
    if instance.ignore and not holds.ignore:
        lost["don't-care regions: left out"] += 1
        return None
    if holds.corners == "box" and not _is_box(polygon):
        lost["outlines that are no level box: written as the box around them"] += 1
        (x0, y0), (x1, y1) = polygon.min(axis=0), polygon.max(axis=0)
        polygon = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float32)
    elif holds.corners == "quad" and len(polygon) != 4:
        lost["outlines without exactly four corners: written as the smallest rectangle around them"] += 1
        polygon = cv2.boxPoints(cv2.minAreaRect(polygon)).astype(np.float32)
    if not holds.fractions and (not np.array_equal(polygon, polygon.round()) or polygon.min() < 0):
        lost["coordinates that are no whole numbers from 0 on: rounded"] += 1
        polygon = np.maximum(polygon.round(), 0)
        if not is_valid(polygon.astype(np.float64)):
            lost["regions without area after rounding: left out"] += 1
            return None
    if not holds.text:
        if text and not instance.ignore:
            lost["texts: left out"] += 1
        text = ""
    elif instance.ignore and not holds.ignored_text:
        if text not in ("", IGNORE_MARK):
            lost["texts of don't-care regions: left out"] += 1
        text = ""
    fitted = replace(instance, polygon=polygon, text=text)
    if why := call(kind.unwritable, fitted):
        lost[f"{why}: written without what the format cannot hold"] += 1
        fitted = replace(fitted, text=call(kind.written_text, text))
    return fitted


def _is_box(polygon: np.ndarray) -> bool:
    (x0, y0), (x1, y1) = polygon.min(axis=0), polygon.max(axis=0)
    return np.array_equal(polygon, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=polygon.dtype))


def _check_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: exists and is not empty; choose another folder, or remove it")


def write_set(parts: Mapping[AnnotationFormat, Sequence[PageToWrite]], folder: Path, pictures: Pictures) -> None:
    """Write a data set as a whole: ``folder`` is there when it is complete.

    Args:
        parts: The pages, by the format of their labels.
        folder: Where it goes.
        pictures: As for ``convert``.

    Raises:
        DataError: It exists and is not empty, or cannot be written.
    """
    _check_free(folder)
    partial = folder.absolute().with_name(f".{folder.absolute().name}.{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        if pictures != "none":
            (partial / "images").mkdir()
        for kind, pages in parts.items():
            for page in pages:
                if pictures == "link":
                    (partial / page.image).symlink_to(page.path.resolve())
                elif pictures == "copy":
                    shutil.copyfile(page.path, partial / page.image)
            call(kind.write, list(pages), partial)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def split_set(
    source: Path,
    folder: Path,
    share: float,
    seed: int = 0,
    near: int = 12,
    *,
    format: str | None = None,
    images: Path | None = None,
    pictures: Pictures = "link",
    progress: Progress | None = None,
) -> dict[str, int]:
    """Divide a data set into ``train/`` and ``val/``, near-duplicates together; labels keep their format.

    Args:
        source: A folder or a label file.
        folder: Where ``train/`` and ``val/`` go; it must not exist, or be empty.
        share: Of the pages, for validation.
        seed: Of the division.
        near: Bits of 256 in which pages may differ to be near-duplicates.
        format: Of the labels; recognised if None.
        images: Where the images lie, if it cannot be guessed.
        pictures: As for ``convert``.
        progress: Wraps the images.

    Returns:
        ``train`` and ``val``, pages; ``near_duplicates``, pages that look like another one; ``seed``.

    Raises:
        DataError: A sample cannot be used, or the folder cannot be written.
    """
    _check_free(folder)
    layout = find_pages(source, format, None, images)
    if layout.problems:
        raise layout.problems[0]
    entries, report, names = layout.entries, DataReport(source), dict[str, Path]()
    for entry in entries:
        if (other := names.setdefault(entry.image.name, entry.image)) != entry.image:
            raise DataError(f"{entry.image}: has the name of {other}; rename one")
    groups = near_duplicates([entry.image for entry in entries], near, progress)
    taken = divide(groups, share, seed)
    done = {"train": 0, "val": 0, "near_duplicates": len(entries) - len(set(groups.tolist())), "seed": seed}
    for name, part in (("train", ~taken), ("val", taken)):
        parts: dict[AnnotationFormat, list[PageToWrite]] = {}
        for entry, inside in zip(entries, part.tolist(), strict=True):
            if inside:
                labels, size = labels_of(entry, report).instances, check_image(entry.image)
                page = PageToWrite(entry.image.name, f"images/{entry.image.name}", entry.image, size, labels)
                parts.setdefault(entry.kind, []).append(page)
        done[name] = sum(map(len, parts.values()))
        write_set(parts, folder / name, pictures)
    return done
