"""Text files of one region a line: ICDAR 2013 and 2015, MLT, RCTW, SROIE, and polygons of any length."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ocrsdk.formats.base import (
    FARTHEST,
    IGNORE_MARK,
    AnnotationFormat,
    FaultKind,
    Holds,
    LabelledPage,
    box_outline,
    is_ignore_mark,
    number_text,
    write_text,
)
from ocrsdk.formats.files import cut

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ocrsdk.formats.base import PageToWrite
    from ocrsdk.formats.files import LabelFile
    from ocrsdk.types import TextInstance

_ONE = 1.5
"""Pixels. Where no coordinate is larger, no text can be; shares of the page may lie a little beyond it."""
_FEW = 20
"""Lines that tell a format."""
SCRIPTS = frozenset(["arabic", "bangla", "chinese", "hindi", "japanese", "korean", "latin", "mixed", "none", "symbols"])
"""Of the ninth column of MLT."""


class _LineError(Exception):
    def __init__(self, message: str, kind: FaultKind = "coordinates") -> None:
        super().__init__(message)
        self.kind: FaultKind = kind


class LineFormat(AnnotationFormat):
    """Base of the formats with one region a line."""

    @abstractmethod
    def split(self, line: str) -> tuple[list[str], str, bool]:
        """Coordinates, text and whether it is don't-care; raises ``_LineError``."""

    def join(self, instance: TextInstance) -> str:
        """The line of a region."""
        coordinates = ",".join(number_text(value) for value in instance.polygon.reshape(-1))
        return f"{coordinates},{IGNORE_MARK if instance.ignore else instance.text}"

    def read(self, file: LabelFile) -> Iterator[LabelledPage]:
        """One page; each bad line is a fault."""
        page = LabelledPage(file)
        for number, line in file.lines():
            try:
                fields, text, ignore = self.split(line)
                page.add(_numbers(fields, line), text, ignore, number)
            except _LineError as error:
                page.fault(error.kind, str(error), number)
        if page.instances and not page.faults and max(np.abs(i.polygon).max() for i in page.instances) <= _ONE:
            page.fault(
                "unit",
                "all coordinates lie between 0 and 1, as shares of the page's size do; multiply them by its width and height",
            )
        yield page

    def write(self, pages: Sequence[PageToWrite], folder: Path) -> list[Path]:
        """A file for each page in ``labels/``."""
        written = []
        for page in pages:
            text = "".join(f"{self.join(instance)}\n" for instance in page.instances)
            written.append(write_text(folder / "labels" / self.label_names(page.name)[0], text))
        return written

    def unwritable(self, instance: TextInstance) -> str:
        """Line breaks end a line; a text that means don't-care would be read as that."""
        if set("\n\r") & set(instance.text):
            return "texts with line breaks"
        return "texts that mean don't-care" if is_ignore_mark(instance.text) else ""

    def written_text(self, text: str) -> str:
        """One line of it."""
        return "" if is_ignore_mark(text) else " ".join(text.split())

    def _is_text(self, file: LabelFile) -> bool:
        """Whether each of the first lines can be split, and the numbers are some."""
        first = list(islice(file.lines(), _FEW))
        for _, line in first:
            try:
                _numbers(self.split(line)[0], line)
            except _LineError:
                return False
        return bool(first)


def _numbers(fields: list[str], line: str) -> list[float]:
    found = []
    for field in fields:
        try:
            number = _number(field)
        except ValueError:
            raise _LineError(f"coordinate {field.strip()!r} is not a number: {cut(line)}") from None
        if not math.isfinite(number):
            raise _LineError(f"coordinate {field.strip()!r} is not finite: {cut(line)}")
        if abs(number) > FARTHEST:
            raise _LineError(f"coordinate {field.strip()!r} is beyond any page: {cut(line)}")
        found.append(number)
    return found


def _number(field: str) -> float:
    """What ``float`` reads, but for ``1_0``, which is ten to Python, and digits of other scripts."""
    if "_" in field or not field.isascii():
        raise ValueError(field)
    return float(field)


_NO_QUADS = "which look like the outline of a polygon with more than four corners"


class Icdar15(LineFormat):
    """``x1,y1,...,x4,y4,transcription`` a line, UTF-8 with or without BOM, LF or CRLF.

    The transcription is everything after the eighth comma, kept as it is; it may be missing. ``###`` marks a don't-care region,
    also in quotes, between blanks, or behind one more column. An empty file means a page without text.
    """

    name = "icdar15"
    summary = "x1,y1,...,x4,y4,text a line; gt_NAME.txt or NAME.txt"
    holds = Holds("quad")

    def label_names(self, image: str) -> tuple[str, ...]:
        """``gt_NAME.txt`` or ``NAME.txt``."""
        return tuple(f"{before}{name}" for name in super().label_names(image) for before in ("gt_", ""))

    def recognises(self, file: LabelFile) -> bool:
        """Eight numbers before each text."""
        return self._is_text(file)

    def split(self, line: str) -> tuple[list[str], str, bool]:
        """The text is what follows the eighth comma."""
        fields = line.split(",", 8)
        if len(fields) < 8:
            raise _LineError(f"{len(fields)} fields, expected 8 coordinates and a text (x1,y1,...,x4,y4,text): {cut(line)}")
        text = fields[8] if len(fields) > 8 else ""
        rest = text.split(",")
        if len(rest) >= 3 and not _THOUSANDS.fullmatch(text) and _are_corners(fields[:8], rest[: len(rest) // 2 * 2]):
            raise _LineError(
                f"{len(line.split(','))} fields, {_NO_QUADS}: {cut(line)}; "
                "such labels belong into NAME.jpg.txt, for the image NAME.jpg, or need --format icdar-poly"
            )
        return fields[:8], text, is_ignore_mark(text) or is_ignore_mark(text.rpartition(",")[2])


_THOUSANDS = re.compile(r"\s*\d{1,3}(,\d{3}){1,2}(\.\d+)?\s*")


def _are_corners(quad: list[str], more: list[str]) -> bool:
    """Whether fields behind four corners are further ones: numbers, and close to the first four."""
    try:
        corners, further = (np.array([_number(field) for field in fields]).reshape(-1, 2) for fields in (quad, more))
    except ValueError:
        return False
    if not (np.abs(corners) <= FARTHEST).all() or not (np.abs(further) <= FARTHEST).all():
        return False
    low, high = corners.min(axis=0), corners.max(axis=0)
    side = (high - low).max()
    if len(further) <= 2:  # a text like 1,2,3 may pass for a corner
        return bool(((further >= low - side / 2) & (further <= high + side / 2)).all())
    steps = np.linalg.norm(np.diff(np.concatenate([corners[-1:], further]), axis=0), axis=1)
    return bool((steps <= 4 * side).all())


class Mlt(Icdar15):
    """ICDAR MLT 2017 and 2019: as ICDAR 2015, with a script between corners and text."""

    name = "mlt"
    summary = "x1,y1,...,x4,y4,script,text a line"
    specific = 1

    def recognises(self, file: LabelFile) -> bool:
        """A script in the ninth column of every line."""
        lines = [line.split(",", 9) for _, line in islice(file.lines(), _FEW)]
        return all(len(f) >= 10 and f[8].strip().lower() in SCRIPTS for f in lines) and self._is_text(file)

    def split(self, line: str) -> tuple[list[str], str, bool]:
        """The ninth field is the script."""
        fields = line.split(",", 9)
        if len(fields) < 10:
            raise _LineError(f"{len(fields)} fields, expected 8 coordinates, a script and a text: {cut(line)}")
        return fields[:8], fields[9], is_ignore_mark(fields[9])

    def join(self, instance: TextInstance) -> str:
        """The script is not known: ``None``, as MLT writes it for regions of no script."""
        *coordinates, text = super().join(instance).split(",", 8)
        return ",".join([*coordinates, "None", text])


class Rctw(Icdar15):
    """RCTW-17: as ICDAR 2015, with a flag between corners and text, which is in double quotes."""

    name = "rctw"
    summary = 'x1,y1,...,x4,y4,difficult,"text" a line; difficult regions are don\'t-care'
    holds = Holds("quad", ignored_text=True)
    specific = 1

    def recognises(self, file: LabelFile) -> bool:
        """0 or 1 in the ninth column of every line, and quotes around every text."""
        lines = [line.split(",", 9) for _, line in islice(file.lines(), _FEW)]
        flags = all(len(f) == 10 and f[8].strip() in ("0", "1") and f[9].strip()[:1] == '"' for f in lines)
        return flags and self._is_text(file)

    def split(self, line: str) -> tuple[list[str], str, bool]:
        """The ninth field is 1 for regions that are hard to read."""
        fields = line.split(",", 9)
        if len(fields) < 10:
            raise _LineError(f"{len(fields)} fields, expected 8 coordinates, 0 or 1, and a text in quotes: {cut(line)}")
        if fields[8].strip() not in ("0", "1"):
            raise _LineError(f"{fields[8].strip()!r} where 0 or 1 was expected: {cut(line)}", "syntax")
        text = _unquoted(fields[9], line)
        return fields[:8], text, fields[8].strip() == "1" or is_ignore_mark(text)

    def join(self, instance: TextInstance) -> str:
        """The flag of a don't-care region is 1."""
        coordinates = ",".join(number_text(value) for value in instance.polygon.reshape(-1))
        return f'{coordinates},{instance.ignore:d},"{instance.text}"'


def _unquoted(field: str, line: str) -> str:
    text = field.strip()
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        raise _LineError(f"the text is not in double quotes: {cut(line)}", "text")
    return text[1:-1]


class IcdarPolygons(LineFormat):
    """``x1,y1,...,xn,yn,transcription`` a line, n >= 3: CTW1500, ArT and DB's Total-Text.

    The last field is the transcription, so it cannot hold a comma and cannot be missing.
    """

    name = "icdar-poly"
    summary = "x1,y1,...,xn,yn,text a line, for any n; NAME.jpg.txt"

    def label_names(self, image: str) -> tuple[str, ...]:
        """``NAME.jpg.txt``."""
        return (f"{image}.txt",)

    def recognises(self, file: LabelFile) -> bool:
        """An even number of numbers before each text."""
        return self._is_text(file)

    def split(self, line: str) -> tuple[list[str], str, bool]:
        """The text is what follows the last comma."""
        *coordinates, text = line.split(",")
        if len(coordinates) < 6 or len(coordinates) % 2:
            raise _LineError(
                f"{len(coordinates)} coordinates before the text, expected an even number from 6 on "
                f"(x1,y1,...,xn,yn,text): {cut(line)}"
            )
        if len(coordinates) in (10, 12) and not _are_corners(coordinates[:8], coordinates[8:]):
            raise _LineError(
                f"corner {','.join(coordinates[8:10])} lies far from the first four: {cut(line)}. A text with commas cannot "
                "be written in this format; quads belong into gt_NAME.txt"
            )
        return coordinates, text, is_ignore_mark(text)

    def unwritable(self, instance: TextInstance) -> str:
        """A comma would end the coordinates."""
        return "texts with commas" if "," in instance.text else super().unwritable(instance)

    def written_text(self, text: str) -> str:
        """Without commas."""
        return super().written_text(text).replace(",", "")


class Icdar13(LineFormat):
    """ICDAR 2013, focused scene text: ``x1 y1 x2 y2 "text"`` a line in training files, with commas in test files."""

    name = "icdar13"
    summary = 'left top right bottom "text" a line; gt_NAME.txt'
    holds = Holds("box")

    def label_names(self, image: str) -> tuple[str, ...]:
        """``gt_NAME.txt`` or ``NAME.txt``."""
        return tuple(f"{before}{name}" for name in super().label_names(image) for before in ("gt_", ""))

    def recognises(self, file: LabelFile) -> bool:
        """Four numbers and a text in quotes."""
        return self._is_text(file)

    def split(self, line: str) -> tuple[list[str], str, bool]:
        """The text lies between the first and the last quote."""
        match = _BOX.fullmatch(line)
        if match is None:
            raise _LineError(f'expected left top right bottom "text": {cut(line)}', "syntax")
        *_, text = match.groups()
        return box_outline(*match.groups()[:4]), text, is_ignore_mark(text)

    def join(self, instance: TextInstance) -> str:
        """The two corners that tell the box."""
        low, high = instance.polygon.min(axis=0), instance.polygon.max(axis=0)
        numbers = " ".join(number_text(value) for value in (*low, *high))
        return f'{numbers} "{IGNORE_MARK if instance.ignore else instance.text}"'


_BOX = re.compile(r"""\s*([^\s,"]+)\s*[\s,]\s*([^\s,"]+)\s*[\s,]\s*([^\s,"]+)\s*[\s,]\s*([^\s,"]+)\s*[\s,]\s*"(.*)"\s*""")


class Sroie(Icdar15):
    """ICDAR 2019 SROIE, as many keep it: ``x1,y1,...,x4,y4,transcription`` in ``NAME.csv``, without a mark for don't-care."""

    name = "sroie"
    summary = "x1,y1,...,x4,y4,text a line, no don't-care; NAME.csv"
    endings: ClassVar[tuple[str, ...]] = (".csv",)
    holds = Holds("quad", ignore=False)

    def label_names(self, image: str) -> tuple[str, ...]:
        """``NAME.csv``."""
        return (f"{image.rpartition('.')[0] or image}.csv",)

    def split(self, line: str) -> tuple[list[str], str, bool]:
        """No text means don't-care."""
        fields, text, _ = super().split(line)
        return fields, text, False

    def unwritable(self, instance: TextInstance) -> str:
        """Line breaks end a line."""
        return "texts with line breaks" if set("\n\r") & set(instance.text) else ""

    def written_text(self, text: str) -> str:
        """One line of it."""
        return " ".join(text.split())
