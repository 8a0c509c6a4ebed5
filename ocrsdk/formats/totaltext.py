"""Total-Text's own files (Ch'ng and Chan 2017): a printed NumPy array for each axis."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from ocrsdk.formats.base import AnnotationFormat, Holds, LabelledPage, number_text, write_text
from ocrsdk.formats.files import cut

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ocrsdk.formats.base import PageToWrite
    from ocrsdk.formats.files import LabelFile
    from ocrsdk.types import TextInstance

_START = re.compile(r"^\s*x\s*:", re.MULTILINE)
_ENTRY = re.compile(
    r"""\s*x\s*:\s*\[\[(?P<x>[^\]]*)\]\]\s*,\s*y\s*:\s*\[\[(?P<y>[^\]]*)\]\]\s*,\s*ornt\s*:\s*\[u?(?P<q>['"])(?P<ornt>.*?)(?P=q)\]\s*,"""
    r"""\s*transcriptions\s*:\s*\[(?:u?(?P<p>['"])(?P<text>.*)(?P=p))?\]\s*""",
    re.DOTALL,
)


class TotalText(AnnotationFormat):
    """``x: [[..]], y: [[..]], ornt: [u'c'], transcriptions: [u'..']`` for each region.

    ``#`` as orientation or text is don't-care.
    """

    name = "totaltext"
    summary = "x: [[..]], y: [[..]], ornt: [..], transcriptions: [..]; poly_gt_NAME.txt"
    holds = Holds("polygon")

    def label_names(self, image: str) -> tuple[str, ...]:
        """``poly_gt_NAME.txt`` or ``gt_NAME.txt``."""
        stem = image.rpartition(".")[0] or image
        return f"poly_gt_{stem}.txt", f"gt_{stem}.txt", f"{stem}.txt"

    def recognises(self, file: LabelFile) -> bool:
        """It begins with the x of a region."""
        return bool(re.match(r"\s*x\s*:\s*\[\[", file.text))

    def read(self, file: LabelFile) -> Iterator[LabelledPage]:
        """One page; arrays may wrap over several lines."""
        page, text = LabelledPage(file), file.text
        starts = [match.start() for match in _START.finditer(text)]
        before = text[: starts[0]] if starts else text
        if before.strip():
            page.fault("syntax", f"expected x: [[..]], y: [[..]], ...: {cut(before.strip())}", 1)
        for start, end in itertools.pairwise([*starts, len(text)]):
            line = text.count("\n", 0, start) + 1
            entry = _ENTRY.fullmatch(text[start:end])
            if entry is None:
                page.fault("syntax", f"no region of Total-Text: {cut(text[start:end].strip())}", line)
                continue
            try:
                xs, ys = ([float(number) for number in entry[axis].split()] for axis in "xy")
            except ValueError as error:
                page.fault("coordinates", str(error), line)
                continue
            if len(xs) != len(ys):
                page.fault("coordinates", f"{len(xs)} numbers in x and {len(ys)} in y", line)
                continue
            word = entry["text"] or ""
            ignore = entry["ornt"] == "#" or word == "#"
            page.add([list(point) for point in zip(xs, ys, strict=True)], "" if word == "#" else word, ignore, line)
        yield page

    def write(self, pages: Sequence[PageToWrite], folder: Path) -> list[Path]:
        """A file for each page in ``labels/``."""
        return [
            write_text(folder / "labels" / self.label_names(page.name)[0], "".join(map(self._entry, page.instances)))
            for page in pages
        ]

    def _entry(self, instance: TextInstance) -> str:
        xs, ys = (" ".join(number_text(value) for value in axis) for axis in instance.polygon.T)
        kind = "#" if instance.ignore else "c" if len(instance.polygon) > 4 else "m"
        text = "#" if instance.ignore else instance.text
        return f"x: [[{xs}]], y: [[{ys}]], ornt: [u'{kind}'], transcriptions: [u'{text}']\n"

    def unwritable(self, instance: TextInstance) -> str:
        """``#`` is don't-care, and a line that begins with x: is the next region."""
        if instance.text == "#":
            return "texts that mean don't-care"
        return "texts with line breaks" if set("\n\r") & set(instance.text) else ""

    def written_text(self, text: str) -> str:
        """One line of it."""
        return "" if text == "#" else " ".join(text.split())
