"""Everything that is wrong or odd in a data set, by kind, with file and line: ``ocrsdk data check``."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from ocrsdk.data.image import check_image, is_blank, read_image
from ocrsdk.data.layout import find_pages
from ocrsdk.data.units import Extent, Extents, doubts
from ocrsdk.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ocrsdk.data.layout import Entry, PageSource, Progress
    from ocrsdk.data.preparation import Preparation
    from ocrsdk.formats.base import FaultKind, LabelledPage

Level = Literal["error", "warning"]


class Kind(NamedTuple):
    """A kind of finding."""

    level: Level
    title: str
    remedy: str


KINDS: dict[str, Kind] = {
    "set": Kind("error", "the data set cannot be read", "name the folder, the label file, or the format with --format"),
    "pairing": Kind("error", "images without a label, labels without an image", "add what is missing, or --on-bad-sample skip"),
    "label": Kind("error", "label files that cannot be read", "mend the file, or --on-bad-sample skip"),
    "coordinates": Kind("error", "coordinates that are none, or too few or too many", "mend the line, or --on-bad-sample skip"),
    "syntax": Kind("error", "regions that are not as the format prescribes", "mend them, or name the format with --format"),
    "text": Kind("error", "texts that are none", "mend them, or --on-bad-sample skip"),
    "unit": Kind("error", "coordinates in another unit than pixels", "multiply them by the size of the page"),
    "image": Kind("error", "images that cannot be read", "replace them, or --on-bad-sample skip"),
    "size": Kind("warning", "pages of another size than their labels say", "were images resized or turned after labelling?"),
    "shape": Kind("warning", "regions that cross themselves or have no area", "give corners in order, or --on-bad-box drop"),
    "outside": Kind("warning", "regions that reach beyond their page", "cut in training (data.outside=clip); ignore or stop"),
    "doubt": Kind("warning", "labels that look like another unit, scale or orientation", "export them in pixels of upright images"),
    "duplicate": Kind("warning", "regions that stand twice on a page", "remove one: a detector can find only one"),
    "small": Kind("warning", "text too small to be learned at the training size", "raise data.short_side, or augment.scale_max"),
    "ignored": Kind("warning", "pages on which nothing counts", "remove them, or look at their marks for don't-care"),
    "empty": Kind("warning", "no page has any text that counts", "is it the right format? try --format"),
    "copy": Kind("warning", "images with the same bytes", "keep one of each"),
    "leak": Kind("warning", "images that are in training and in validation", "remove them from one: the score would be too good"),
    "blank": Kind("warning", "images of one colour", "were they written or converted wrongly?"),
}
"""In the order of reports."""
_OF_FAULT: dict[FaultKind, str] = {
    "syntax": "syntax", "coordinates": "coordinates", "shape": "shape", "unit": "unit", "text": "text",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that was found."""

    kind: str
    file: str
    line: int
    """0 where there is none."""
    message: str
    """With file and line."""

    @property
    def level(self) -> Level:
        """Of its kind."""
        return KINDS[self.kind].level


@dataclass
class SourceCounts:
    """What one folder or label file holds."""

    path: str
    formats: list[str] = field(default_factory=list)
    pages: int = 0
    regions: int = 0
    ignored: int = 0
    unlisted: int = 0
    """Images that the label file does not name."""


@dataclass
class Inspection:
    """What was found in a data set."""

    root: str
    sources: list[SourceCounts] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def formats(self) -> list[str]:
        """Of all label files."""
        return list(dict.fromkeys(name for source in self.sources for name in source.formats))

    @property
    def pages(self) -> int:
        """Of all sources."""
        return sum(source.pages for source in self.sources)

    @property
    def regions(self) -> int:
        """Of all sources."""
        return sum(source.regions for source in self.sources)

    @property
    def ignored(self) -> int:
        """Of all sources."""
        return sum(source.ignored for source in self.sources)

    @property
    def unlisted(self) -> int:
        """Of all sources."""
        return sum(source.unlisted for source in self.sources)

    @property
    def errors(self) -> int:
        """How many findings would stop a run."""
        return sum(finding.level == "error" for finding in self.findings)

    def by_kind(self) -> dict[str, list[Finding]]:
        """Findings in groups, errors first."""
        groups: dict[str, list[Finding]] = {kind: [] for kind in KINDS}
        for finding in self.findings:
            groups[finding.kind].append(finding)
        return {kind: found for kind, found in groups.items() if found}

    def as_dict(self) -> dict[str, object]:
        """JSON-ready."""
        counts = {kind: len(found) for kind, found in self.by_kind().items()}
        findings = [{"level": f.level, **asdict(f), "remedy": KINDS[f.kind].remedy} for f in self.findings]
        return {
            "root": self.root, "formats": self.formats, "pages": self.pages, "regions": self.regions, "ignored": self.ignored,
            "unlisted": self.unlisted, "sources": [asdict(source) for source in self.sources],
            "errors": self.errors, "warnings": len(self.findings) - self.errors, "counts": counts,
            "findings": findings,
        }  # fmt: skip


class Rules(NamedTuple):
    """What text has to be for a detector to learn it."""

    preparation: Preparation
    scale_max: float
    """The largest random scale."""
    min_text_size: float
    """Pixels."""


def inspect_data(
    splits: Sequence[Sequence[PageSource]], rules: Rules, decode: bool = False, progress: Progress | None = None
) -> Inspection:
    """Look at every label and every image of a data set; nothing is raised for what is wrong in it.

    Args:
        splits: The sources of one set, or those for training and those for validation.
        rules: See ``Rules``.
        decode: Decode every image; else its header and end mark are read.
        progress: Wraps the images.

    Raises:
        SettingsError: An option is wrong.
        PluginError: There is no such format.
    """
    report = Inspection(", ".join(str(source.path) for sources in splits for source in sources))
    found: list[tuple[int, SourceCounts, Entry]] = []
    for number, sources in enumerate(splits):
        for source in sources:
            counts = SourceCounts(str(source.path))
            report.sources.append(counts)
            try:
                layout = find_pages(source.path, source.format, source.options, source.images)
            except DataError as error:
                report.findings.append(_finding("set", error))
                continue
            counts.unlisted = layout.unlisted
            counts.formats = list(dict.fromkeys(entry.kind.name for entry in layout.entries))
            report.findings += [_finding("pairing", problem) for problem in layout.problems]
            found += [(number, counts, entry) for entry in layout.entries]
    extents: dict[str, Extents] = defaultdict(Extents)
    if not found:
        progress = None
    paths = (entry.image for _, _, entry in found)
    for (_, counts, entry), _ in zip(found, progress(paths, len(found)) if progress else paths, strict=True):
        _of_page(report, counts, entry, rules, decode, extents[counts.path])
    for path, pages in extents.items():
        report.findings += [Finding("doubt", path, 0, f"{path}: {doubt}") for doubt in doubts(pages)]
    if report.pages and report.regions == report.ignored:
        what = f"{report.regions:,} regions, all of them don't-care" if report.regions else "no region on any page"
        report.findings.append(Finding("empty", report.root, 0, f"{report.root}: {what}"))
    report.findings += _of_copies([(number, entry.image) for number, _, entry in found])
    order = list(KINDS)
    report.findings.sort(key=lambda finding: (order.index(finding.kind), finding.file, finding.line))
    return report


def _finding(kind: str, error: DataError, file: Path | str = "", line: int = 0) -> Finding:
    return Finding(kind, str(file) or str(error).partition(": ")[0], line, str(error))


def _of_page(report: Inspection, counts: SourceCounts, entry: Entry, rules: Rules, decode: bool, extents: Extents) -> None:
    size = None
    try:
        if decode:
            pixels = read_image(entry.image)
            size = pixels.shape[0], pixels.shape[1]
            if is_blank(pixels):
                report.findings.append(Finding("blank", str(entry.image), 0, f"{entry.image}: all pixels are equal"))
        else:
            size = check_image(entry.image)
    except DataError as error:
        report.findings.append(_finding("image", error, entry.image))
    try:
        page = entry.read()
    except DataError as error:
        report.findings.append(_finding("label", error, entry.label))
        return
    counts.pages += 1
    counts.regions += len(page.instances)
    counts.ignored += sum(instance.ignore for instance in page.instances)
    for fault in page.faults:
        report.findings.append(_finding(_OF_FAULT[fault.kind], page.error(fault), entry.label, page.file.line(fault.where)))
    for kind, number, message in _oddities(page, size, rules):
        line = page.file.line(page.places[number] if number is not None else page.where)
        place = f"{entry.label}:{line}" if line else str(entry.label)
        if number is not None and isinstance(page.places[number], tuple):  # of a JSON file: lines tell little there
            message = f"region {number + 1}: {message}"
        of = f" ({entry.image.name})" if entry.is_one_of_many else ""
        report.findings.append(Finding(kind, str(entry.label), line, f"{place}: {message}{of}"))
    if page.instances and size is not None:
        right, bottom = np.max([instance.polygon.max(axis=0) for instance in page.instances], axis=0)
        extents.append(Extent(float(right), float(bottom), size[1], size[0]))


def _oddities(page: LabelledPage, size: tuple[int, int] | None, rules: Rules) -> Iterator[tuple[str, int | None, str]]:
    """Kind, number of the region, message."""
    if page.instances and all(instance.ignore for instance in page.instances):
        yield "ignored", None, f"all {len(page.instances)} regions are don't-care"
    seen: dict[bytes, int] = {}
    for number, instance in enumerate(page.instances):
        key = instance.polygon[np.lexsort(instance.polygon.T)].tobytes()
        if (first := seen.setdefault(key, number)) != number:
            yield "duplicate", number, f"the same corners as region {first + 1}"
    if size is None:
        return
    height, width = size
    if page.size is not None and page.size != size:
        turned = ", turned by 90 degrees" * (page.size == (width, height))
        yield "size", None, f"says {page.size[1]} x {page.size[0]}, the image has {width} x {height}{turned}"
    scale = rules.preparation.evaluation_scale(height, width) * rules.scale_max
    for number, instance in enumerate(page.instances):
        low, high = instance.polygon.min(axis=0), instance.polygon.max(axis=0)
        beyond = max(-low[0], -low[1], high[0] - width, high[1] - height)
        if beyond > 0 and ((low < -1).any() or high[0] > width or high[1] > height):
            reach = f"x {low[0]:g}..{high[0]:g}, y {low[1]:g}..{high[1]:g}"
            yield "outside", number, f"reaches {beyond:g} pixels beyond the {width} x {height} page: {reach}"
        side = float((high - low).min()) * scale
        if not instance.ignore and side < rules.min_text_size:
            told = f"{side:.1f} pixels tall in training at most, where less than {rules.min_text_size:g} does not count"
            yield "small", number, told


def _of_copies(images: Sequence[tuple[int, Path]]) -> Iterable[Finding]:
    """Files with the same bytes: only files of one size are read."""
    sizes: dict[int, list[tuple[int, Path]]] = defaultdict(list)
    for number, path in images:
        try:
            sizes[path.stat().st_size].append((number, path))
        except OSError:
            continue  # told already
    for group in sizes.values():
        if len(group) == 1:
            continue
        same: dict[bytes, tuple[int, Path]] = {}
        for number, path in group:
            try:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").digest()
            except OSError:
                continue
            is_first = digest not in same
            other, first = same.setdefault(digest, (number, path))
            if not is_first:
                kind = "copy" if other == number else "leak"
                yield Finding(kind, str(path), 0, f"{path}: has the same bytes as {first}")
