"""PaddleOCR's and PPOCRLabel's ``Label.txt``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ocrsdk.errors import AnnotationError
from ocrsdk.formats.base import (
    IGNORE_MARK,
    AnnotationFormat,
    Holds,
    LabelledPage,
    Parsed,
    is_ignore_mark,
    plain_points,
    write_text,
)
from ocrsdk.formats.files import cut, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ocrsdk.formats.base import PageToWrite
    from ocrsdk.formats.files import LabelFile
    from ocrsdk.types import TextInstance


class PaddleOCR(AnnotationFormat):
    """An image a line: ``path<TAB>[{"transcription": "..", "points": [[x, y], ..], "difficult": false}, ..]``.

    Difficult regions, and those that read ``###``, are don't-care. ``*``, which PaddleOCR drops as well, is a text.
    """

    name = "paddleocr"
    summary = "PaddleOCR's and PPOCRLabel's Label.txt"
    per_image = False
    holds = Holds("polygon", ignored_text=True)

    def recognises(self, file: LabelFile) -> bool:
        """A path, a tab and a list, on its first line."""
        first = next((line for _, line in file.lines()), "")
        return "\t" in first and first.partition("\t")[2].lstrip().startswith("[")

    def parts(self, file: LabelFile) -> Iterator[tuple[str, LabelFile]]:
        """The lines."""
        return ((part.before("\t"), part) for part in file.parts())

    def read(self, file: LabelFile) -> Iterator[LabelledPage]:
        """A page for each line."""
        for number, line in file.lines():
            image, tab, rest = line.partition("\t")
            page = LabelledPage(file, image, number)
            try:
                regions = parse_json(rest) if tab else None
            except ValueError as error:
                page.fault("syntax", f"no JSON behind the tab: {error}", number)
                yield page
                continue
            if not isinstance(regions, list):
                what = "a list" if tab else "a tab and a list behind the path"
                page.fault("syntax", f"expected {what}: {cut(line)}", number)
            else:
                page.add_all(regions, _region, ())
                page.places = [number] * len(page.places)
                page.faults = [fault._replace(where=number, message=_numbered(fault.where, fault.message)) for fault in page.faults]
            yield page

    def write(self, pages: Sequence[PageToWrite], folder: Path) -> list[Path]:
        """``Label.txt``."""
        lines = [f"{page.image}\t{json.dumps([_entry(i) for i in page.instances], ensure_ascii=False)}\n" for page in pages]
        for page in pages:
            if set("\t\n\r") & set(page.image):
                raise AnnotationError(f"{page.path}: an image name with a tab or a line break cannot stand in Label.txt; rename it")
        return [write_text(folder / "Label.txt", "".join(lines))]

    def unwritable(self, instance: TextInstance) -> str:
        """What reads ``###`` is don't-care."""
        return "texts that mean don't-care" if is_ignore_mark(instance.text) else ""


def _numbered(where: object, message: str) -> str:
    return f"region {int(where[0]) + 1}: {message}" if isinstance(where, tuple) and where else message


def _region(item: Any) -> Parsed:
    text = item.get("transcription", "")
    difficult = item.get("difficult", False)
    if type(difficult) not in (bool, int):
        raise TypeError
    return item["points"], text, bool(difficult) or is_ignore_mark(text)


def _entry(instance: TextInstance) -> dict[str, object]:
    text = (instance.text or IGNORE_MARK) if instance.ignore else instance.text
    return {"transcription": text, "points": plain_points(instance.polygon), "difficult": instance.ignore}
