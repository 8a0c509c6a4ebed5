"""Reading and checking a data folder, before PyTorch is loaded: a mistake in a label is told in a second."""

from __future__ import annotations

import gc
import hashlib
import os
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from ocrsdk.data.image import check_image, is_blank, read_image
from ocrsdk.data.index import manner
from ocrsdk.data.layout import Entry, Progress, find_pages
from ocrsdk.data.listing import Folders
from ocrsdk.data.table import JoinedPages, PageTable, TableBuilder
from ocrsdk.data.units import Extent, Extents
from ocrsdk.data.workers import available_cpus
from ocrsdk.errors import AnnotationError, DataError
from ocrsdk.fingerprint import fingerprint
from ocrsdk.geometry import clip_to_page
from ocrsdk.processes import in_processes
from ocrsdk.types import Annotation, TextInstance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ocrsdk.data.index import PageIndexes
    from ocrsdk.data.layout import Layout
    from ocrsdk.settings.sections import OnBadBox, OnBadSample, Outside, Verification


@dataclass
class DataReport:
    """What was found while a data folder was read."""

    root: Path
    images: int = 0
    instances: int = 0
    ignored: int = 0
    outside: list[str] = field(default_factory=list)
    """``file: region`` for each region that reaches more than a pixel beyond its page."""
    blank: list[str] = field(default_factory=list)
    """Images of one colour, where every image was decoded."""
    dropped: list[str] = field(default_factory=list)
    """One message for each region that was dropped."""
    unread: list[str] = field(default_factory=list)
    """Names in ``images/`` that are no images by their ending; sub-folders end in ``/``."""
    skipped: list[str] = field(default_factory=list)
    """One message for each skipped sample."""
    extents: Extents = field(default_factory=Extents)
    """Of each page with text."""
    formats: tuple[str, ...] = ()
    """Of the label files."""
    unlisted: int = 0
    """Images in the folder that the one label file does not name."""

    def kept(self) -> dict[str, object]:
        """JSON-ready."""
        return {**{f.name: getattr(self, f.name) for f in fields(self)}, "root": str(self.root), "extents": self.extents.packed()}

    @classmethod
    def of(cls, root: Path, kept: Mapping[str, Any]) -> DataReport:
        """The report of which ``kept`` was kept."""
        return cls(**{**kept, "root": root, "extents": Extents.unpacked(kept["extents"]), "formats": tuple(kept["formats"])})

    def note(self, annotation: Annotation) -> None:
        """Count a page."""
        self.images += 1
        self.instances += len(annotation.instances)
        self.ignored += sum(instance.ignore for instance in annotation.instances)

    def extend(self, part: DataReport) -> None:
        """Add what was found in a part of the set."""
        self.images += part.images
        self.instances += part.instances
        self.ignored += part.ignored
        for name in ("outside", "blank", "dropped", "skipped"):
            getattr(self, name).extend(getattr(part, name))
        self.extents.extend(part.extents)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection, which looks at millions of living objects over and over while they are made."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Part(NamedTuple):
    """What was read of some entries."""

    pages: PageTable
    report: DataReport
    error: DataError | None
    """At which reading stopped."""


_ENTRIES = {"decode": 64, "header": 1024}
"""Entries that a process reads at once; fewer than twice as many are read by this one."""


def load_annotations(
    root: Path,
    on_bad_sample: OnBadSample = "stop",
    outside: Outside = "clip",
    verify: Verification = "decode",
    progress: Progress | None = None,
    on_bad_box: OnBadBox = "stop",
    format: str | None = None,
    format_options: Mapping[str, object] | None = None,
    images: Path | None = None,
    indexes: PageIndexes | None = None,
) -> tuple[PageTable, DataReport]:
    """Read and check a data set, a folder or one label file; on all CPUs if it is large.

    Args:
        root: The folder, or the file.
        on_bad_sample: ``stop`` raises at the first bad sample; ``skip`` leaves it out and lists it in the report.
        outside: For regions beyond the page's edge: ``clip`` cuts them, ``ignore`` makes them don't-care, ``stop`` is an error.
        verify: ``decode`` decodes every image once; ``header`` looks at header and end mark only.
        progress: Wraps the images being checked, for a progress bar.
        on_bad_box: For regions without area and such that cross themselves: ``stop`` is an error, ``drop`` leaves them out and
            lists them in the report.
        format: Annotation format of the labels; recognised if None.
        format_options: Its options.
        images: Where the images lie; looked for in and beside ``root`` if None.
        indexes: Where what was read is kept, and used again as long as nothing has changed; nothing is kept if None.

    Returns:
        The pages, a sequence of ``Annotation``, and the report.

    Raises:
        DataError: The folder or (with ``stop``) one of its samples cannot be used.
    """
    began, folders = time.time_ns(), Folders()
    how = {} if indexes is None else manner(
        root, images, on_bad_sample=on_bad_sample, outside=outside, verify=verify, on_bad_box=on_bad_box, format=format,
        format_options=dict(format_options or {}),
    )  # fmt: skip
    if indexes is not None and (found := indexes.load(how, partial(DataReport.of, root))) is not None:
        return found
    with _uncollected():
        layout = find_pages(root, format, format_options, images, folders)
    report = DataReport(root, unread=layout.unread, unlisted=layout.unlisted)
    report.formats = tuple(dict.fromkeys(entry.kind.name for entry in layout.entries))
    if layout.problems and on_bad_sample == "stop":
        more = f" ({len(layout.problems) - 1} more such files)" if len(layout.problems) > 1 else ""
        raise DataError(f"{layout.problems[0]}{more}. To skip such samples: --on-bad-sample skip")
    report.skipped += map(str, layout.problems)
    size = _ENTRIES[verify]

    def read(job: int) -> _Part:
        pages, found = TableBuilder(), DataReport(root)
        for entry in layout.entries[job * size : (job + 1) * size]:
            try:
                annotation = read_sample(entry, outside, verify, found, on_bad_box)
            except DataError as error:
                if on_bad_sample == "stop":
                    return _Part(pages.table(), found, type(error)(f"{error}. To skip such samples: --on-bad-sample skip"))
                found.skipped.append(str(error))
            else:
                pages.add(annotation)
                found.note(annotation)
        return _Part(pages.table(), found, None)

    pages = TableBuilder()
    jobs = -(-len(layout.entries) // size)
    with closing(in_processes(read, jobs, available_cpus(), lambda: cv2.setNumThreads(0))) as parts:
        for part in _told(parts, layout, size, progress):
            if part.error is not None:
                raise part.error
            pages.extend(part.pages)
            report.extend(part.report)
    if not len(pages):
        first = f" ({len(report.skipped)} skipped); the first: {report.skipped[0]}" if report.skipped else ""
        raise DataError(f"{root}: no usable sample is left{first}")
    for messages in (report.outside, report.blank, report.dropped):
        messages.sort()
    table = pages.table()
    return (indexes.keep(how, table, report.kept(), folders, began) if indexes is not None else table), report


def _told(parts: Iterator[_Part], layout: Layout, size: int, progress: Progress | None) -> Iterator[_Part]:
    """The parts; for each, the bar goes on by its images."""
    images = iter(progress((entry.image for entry in layout.entries), len(layout.entries)) if progress else ())
    for part in parts:
        yield part
        for _ in islice(images, size):
            pass
    for _ in images:
        pass


def read_sample(
    entry: Entry,
    outside: Outside = "clip",
    verify: Verification = "header",
    report: DataReport | None = None,
    on_bad_box: OnBadBox = "stop",
) -> Annotation:
    """One checked sample; the arguments are those of ``load_annotations``.

    Raises:
        DataError: It cannot be used.
    """
    report = report or DataReport(entry.folder)
    annotation = labels_of(entry, report, on_bad_box)
    image = annotation.image
    if verify == "decode":
        pixels = read_image(image)
        size = pixels.shape[0], pixels.shape[1]
        if is_blank(pixels):
            report.blank.append(str(image))
    else:
        size = check_image(image)
    return _settle_outside(annotation, size, outside, report)


def labels_of(entry: Entry, report: DataReport, on_bad_box: OnBadBox = "stop") -> Annotation:
    """The labels of one image, with nothing wrong in them; the arguments are those of ``read_sample``.

    Raises:
        AnnotationError: Something is.
    """
    page = entry.read()
    for fault in sorted(page.faults, key=lambda fault: page.file.line(fault.where)):
        error = page.error(fault)
        if fault.kind != "shape":
            raise error
        if on_bad_box == "stop":
            raise AnnotationError(f"{error}; give the corners in order around the text, or --on-bad-box drop")
        report.dropped.append(str(error))
    return Annotation(entry.image, tuple(page.instances), entry.state)


def _settle_outside(annotation: Annotation, size: tuple[int, int], policy: Outside, report: DataReport) -> Annotation:
    """Apply the policy for regions beyond the page; up to one pixel is the usual off-by-one of inclusive corners."""
    if not annotation.instances:
        return annotation
    height, width = size
    corners = np.concatenate(annotation.polygons)
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    report.extents.append(Extent(right, bottom, width, height))
    if left >= -1 and top >= -1 and right <= width and bottom <= height:
        return annotation
    settled = []
    for number, instance in enumerate(annotation.instances, 1):
        low, high = instance.polygon.min(axis=0), instance.polygon.max(axis=0)
        if (low >= -1).all() and high[0] <= width and high[1] <= height:
            settled.append(instance)
            continue
        reach = f"x {low[0]:g}..{high[0]:g}, y {low[1]:g}..{high[1]:g}"
        what = f"{annotation.image}: region {number} reaches {reach} on a {width} x {height} page"
        if policy == "stop":
            raise AnnotationError(f"{what}; cut it with data.outside=clip, or make it don't-care with data.outside=ignore")
        report.outside.append(what)
        if policy == "clip":
            inside = clip_to_page(instance.polygon, height, width)
            if len(inside) >= 3:
                settled.append(TextInstance(inside, instance.text, instance.ignore))
        else:
            settled.append(TextInstance(instance.polygon, instance.text, True))
    return Annotation(annotation.image, tuple(settled), annotation.state)


def data_fingerprint(*splits: Sequence[Annotation]) -> str:
    """16 hex digits that change with any label, and with an image's name or size; the folder itself may move.

    Raises:
        DataError: An image is gone.
    """
    return fingerprint({"splits": [_rows_digest(split) for split in splits]})


_ROWS = 50_000
"""Pages whose images one process looks at."""


def _rows_digest(pages: Sequence[Annotation]) -> str:
    """32 hex digits that change with any page, and not with their order."""
    parts = pages.parts if isinstance(pages, JoinedPages) else [pages]
    found = np.array([row for part in parts for row in _rows(part)], np.uint64)
    return hashlib.blake2b(np.sort(found).tobytes(), digest_size=16).hexdigest()


def _rows(pages: Sequence[Annotation]) -> Iterator[int]:
    """A number for each page."""

    def rows(job: int) -> list[int]:
        found, some = [], range(job * _ROWS, min((job + 1) * _ROWS, len(pages)))
        named = pages.named(some) if isinstance(pages, PageTable) else ((str(pages[i].image), pages[i].digest) for i in some)
        for image, digest in named:
            try:
                size = os.stat(image).st_size  # noqa: PTH116 - a Path costs as much as the call
            except OSError as error:
                raise DataError(f"{image}: was there a moment ago and cannot be read now ({error.strerror})") from error
            row = f"{image.rpartition(os.sep)[2]} {size} {digest}".encode("utf-8", "surrogateescape")
            found.append(int.from_bytes(hashlib.blake2b(row, digest_size=8).digest(), "big"))
        return found

    return chain.from_iterable(in_processes(rows, -(-len(pages) // _ROWS), available_cpus()))
