"""Reading and checking a data folder, before PyTorch is loaded: a mistake in a label is told in a second."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ocrsdk.data.image import check_image, is_blank, read_image
from ocrsdk.data.layout import Entry, Progress, find_pages
from ocrsdk.data.units import Extent
from ocrsdk.errors import AnnotationError, DataError
from ocrsdk.fingerprint import fingerprint
from ocrsdk.geometry import clip_to_page
from ocrsdk.types import Annotation, TextInstance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

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
    extents: list[Extent] = field(default_factory=list)
    """Of each page with text."""
    formats: tuple[str, ...] = ()
    """Of the label files."""
    unlisted: int = 0
    """Images in the folder that the one label file does not name."""


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
) -> tuple[list[Annotation], DataReport]:
    """Read and check a data set: a folder, or one label file.

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

    Raises:
        DataError: The folder or (with ``stop``) one of its samples cannot be used.
    """
    entries, problems, unread, unlisted = find_pages(root, format, format_options, images)
    report = DataReport(root, unread=unread, unlisted=unlisted)
    report.formats = tuple(dict.fromkeys(entry.kind.name for entry in entries))
    if problems and on_bad_sample == "stop":
        more = f" ({len(problems) - 1} more such files)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}. To skip such samples: --on-bad-sample skip")
    report.skipped += [str(problem) for problem in problems]

    def check(entry: Entry) -> Annotation | DataError:
        try:
            return read_sample(entry, outside, verify, report, on_bad_box)
        except DataError as error:
            return error

    annotations = []
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(check, entries)
        try:
            images_read = progress((entry.image for entry in entries), len(entries)) if progress else entries
            for result, _ in zip(results, images_read, strict=True):
                if isinstance(result, DataError):
                    if on_bad_sample == "stop":
                        raise type(result)(f"{result}. To skip such samples: --on-bad-sample skip") from result
                    report.skipped.append(str(result))
                else:
                    annotations.append(result)
        finally:  # an error, or an interrupt, does not wait for the rest
            pool.shutdown(cancel_futures=True)
    if not annotations:
        first = f" ({len(report.skipped)} skipped); the first: {report.skipped[0]}" if report.skipped else ""
        raise DataError(f"{root}: no usable sample is left{first}")
    report.images = len(annotations)
    report.instances = sum(len(a.instances) for a in annotations)
    report.ignored = sum(i.ignore for a in annotations for i in a.instances)
    report.outside.sort()
    report.blank.sort()
    report.dropped.sort()
    return annotations, report


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
    image = entry.image
    report = report or DataReport(image.parent)
    annotation = labels_of(entry, report, on_bad_box)
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
    return Annotation(entry.image, tuple(page.instances))


def _settle_outside(annotation: Annotation, size: tuple[int, int], policy: Outside, report: DataReport) -> Annotation:
    """Apply the policy for regions beyond the page; up to one pixel is the usual off-by-one of inclusive corners."""
    height, width = size
    settled = []
    if annotation.instances:
        right, bottom = np.max([instance.polygon.max(axis=0) for instance in annotation.instances], axis=0)
        report.extents.append(Extent(float(right), float(bottom), width, height))
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
    return Annotation(annotation.image, tuple(settled))


def data_fingerprint(*splits: Iterable[Annotation]) -> str:
    """16 hex digits that change with any label, and with an image's name or size; the folder itself may move.

    Raises:
        DataError: An image is gone.
    """
    try:
        listed = [sorted(f"{a.image.name} {a.image.stat().st_size} {a.digest}" for a in split) for split in splits]
    except OSError as error:
        raise DataError(f"{error.filename}: was there a moment ago and cannot be read now ({error.strerror})") from error
    return fingerprint({"splits": listed})
