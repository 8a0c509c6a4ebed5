"""One XML file for each image: PAGE (PRImA) and ALTO (Library of Congress)."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal
from xml.sax.saxutils import escape, quoteattr

from ocrsdk.formats.base import AnnotationFormat, Holds, LabelledPage, box_outline, number_text, plain_bounds, write_text
from ocrsdk.formats.files import cut
from ocrsdk.settings import options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ocrsdk.formats.base import PageToWrite
    from ocrsdk.formats.files import Element, LabelFile
    from ocrsdk.types import TextInstance

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
"""Characters that XML cannot hold."""


class XmlPages(AnnotationFormat):
    """Base of formats with an XML file for each image."""

    endings: ClassVar[tuple[str, ...]] = (".xml",)
    root = ""

    class Options(options.Options):
        """Options of a format with several levels."""

        level: Literal["line", "word"] = "line"
        """What becomes a region."""

    def recognises(self, file: LabelFile) -> bool:
        """By its first element."""
        return file.xml.name.lower() == self.root

    def write(self, pages: Sequence[PageToWrite], folder: Path) -> list[Path]:
        """A file for each page in ``labels/``."""
        return [write_text(folder / "labels" / self.label_names(page.name)[0], _HEAD + self.made(page)) for page in pages]

    @abstractmethod
    def made(self, page: PageToWrite) -> str:
        """The content of a page's file."""

    def unwritable(self, instance: TextInstance) -> str:
        """XML has no control characters, and reads other line ends as line feeds."""
        return "texts with control characters" if _FORBIDDEN.search(instance.text) or "\r" in instance.text else ""

    def written_text(self, text: str) -> str:
        """Without them."""
        return _FORBIDDEN.sub("", text).replace("\r", "")


def _whole(text: str) -> int | None:
    """A whole number from 0 on of at most nine digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None


def _side(element: Element, name: str) -> int | None:
    return _whole(element.attributes.get(name, "")) or None


def _size(element: Element, height: str, width: str) -> tuple[int, int] | None:
    sides = _side(element, height), _side(element, width)
    return None if sides[0] is None or sides[1] is None else (sides[0], sides[1])


def _float(text: str) -> float:
    try:
        number = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"coordinate {cut(text)} is not a number")
    return number


def _pairs(text: str) -> list[float]:
    """``x,y x,y`` as PAGE and ALTO write it, or ``x y x y``."""
    return [_float(number) for number in re.split(r"[\s,]+", text.strip())] if text.strip() else []


class Page(XmlPages):
    """PAGE XML 2010 to 2019: ``TextLine`` or ``Word`` with ``Coords`` and ``TextEquiv``.

    The schema has whole coordinates from 0 on, and nothing for don't-care; a line with ``ignore {}`` in its ``custom`` attribute is
    read and written as that. Of several ``TextEquiv`` the one with the least index counts.
    """

    name = "page"
    summary = "PAGE XML: TextLine or Word with Coords"
    holds = Holds("polygon", ignored_text=True, fractions=False)
    root = "pcgts"

    def read(self, file: LabelFile) -> Iterator[LabelledPage]:
        """One page."""
        element = file.xml.first("Page")
        if file.xml.name.lower() != self.root or element is None:
            raise file.error(f"its first element is {cut(file.xml.name)}; expected PcGts with a Page in it", file.xml.line)
        page = LabelledPage(file, element.attributes.get("imageFilename", ""), element.line)
        page.size = _size(element, "imageHeight", "imageWidth")
        for line in element.below("TextLine" if self.options.level == "line" else "Word"):
            coords = line.first("Coords")
            if coords is None:
                page.fault("syntax", f"a {line.name} without Coords", line.line)
                continue
            try:
                points = _pairs(coords.attributes["points"]) if "points" in coords.attributes else [
                    _float(point.attributes.get(axis, "")) for point in coords.all("Point") for axis in "xy"
                ]  # fmt: skip
            except ValueError as error:
                page.fault("coordinates", str(error), coords.line)
                continue
            page.add(points, _equivalent(line), "ignore" in line.attributes.get("custom", "").split(), coords.line)
        yield page

    def made(self, page: PageToWrite) -> str:
        """One region that holds all lines."""
        height, width = page.size
        lines = []
        for number, instance in enumerate(page.instances, 1):
            points = " ".join(f"{number_text(x)},{number_text(y)}" for x, y in instance.polygon)
            custom = ' custom="ignore {}"' if instance.ignore else ""
            lines.append(
                f'   <TextLine id="l{number}"{custom}>\n    <Coords points="{points}"/>\n'
                f"    <TextEquiv><Unicode>{escape(instance.text)}</Unicode></TextEquiv>\n   </TextLine>\n"
            )
        region = (
            f'  <TextRegion id="r1">\n   <Coords points="0,0 {width - 1},0 {width - 1},{height - 1} 0,{height - 1}"/>\n'
            f"{''.join(lines)}  </TextRegion>\n"
        )
        return (
            '<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15">\n'
            " <Metadata><Creator>ocrsdk</Creator><Created>2000-01-01T00:00:00</Created>"
            "<LastChange>2000-01-01T00:00:00</LastChange></Metadata>\n"
            f' <Page imageFilename={quoteattr(page.image)} imageWidth="{width}" imageHeight="{height}">\n'
            f"{region * bool(lines)} </Page>\n</PcGts>\n"
        )


def _equivalent(line: Element) -> str:
    found = line.all("TextEquiv")
    if not found:
        return ""
    ranks = [_whole(element.attributes.get("index", "0")) for element in found]
    best = min(zip(found, ranks, strict=True), key=lambda pair: pair[1] if pair[1] is not None else 10**9)[0]
    unicode = best.first("Unicode")
    return unicode.text if unicode is not None else ""


class Alto(XmlPages):
    """ALTO 2 to 4: ``TextLine`` or ``String`` with a box, or a ``Shape`` of a ``Polygon``. Its measurement unit must be the pixel.

    A line's text is that of its strings, with blanks between.
    """

    name = "alto"
    summary = "ALTO XML: TextLine or String with a box or a Shape"
    holds = Holds("polygon", ignore=False)
    root = "alto"

    def read(self, file: LabelFile) -> Iterator[LabelledPage]:
        """One page."""
        top = file.xml
        if top.name.lower() != self.root:
            raise file.error(f"its first element is {cut(top.name)}; expected alto", top.line)
        for unit in top.below("MeasurementUnit"):
            if unit.text.strip() not in ("pixel", ""):
                raise file.error(
                    f"its coordinates are in {cut(unit.text.strip())}; export it with MeasurementUnit pixel", unit.line
                )
        pages = top.below("Page")
        if len(pages) != 1:
            raise file.error(f"{len(pages)} pages in it; expected one", pages[1].line if pages else top.line)
        names = top.below("fileName")
        page = LabelledPage(
            file, names[0].text.strip().replace("\\", "/") if names else "", pages[0].line, _size(pages[0], "HEIGHT", "WIDTH")
        )
        for element in pages[0].below("TextLine" if self.options.level == "line" else "String"):
            try:
                points = _alto_corners(element)
            except ValueError as error:
                page.fault("coordinates", str(error), element.line)
                continue
            page.add(points, _content(element), False, element.line)
        yield page

    def made(self, page: PageToWrite) -> str:
        """A line of one string for each region."""
        height, width = page.size
        lines = []
        for number, instance in enumerate(page.instances, 1):
            left, top, right, bottom = plain_bounds(instance.polygon)
            points = " ".join(f"{number_text(x)},{number_text(y)}" for x, y in instance.polygon)
            box = f'HPOS="{left}" VPOS="{top}" WIDTH="{right - left}" HEIGHT="{bottom - top}"'
            shape = f'<Shape><Polygon POINTS="{points}"/></Shape>'
            text = quoteattr(instance.text, {"\n": "&#10;", "\t": "&#9;"})
            string = f'<String ID="s{number}" {box} CONTENT={text}>{shape}</String>'
            lines.append(f'    <TextLine ID="l{number}" {box}>{shape}{string}</TextLine>\n')
        block = f'   <TextBlock ID="b1" HPOS="0" VPOS="0" WIDTH="{width}" HEIGHT="{height}">\n{"".join(lines)}   </TextBlock>\n'
        return (
            '<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#">\n <Description><MeasurementUnit>pixel</MeasurementUnit>'
            f"<sourceImageInformation><fileName>{escape(page.image)}</fileName></sourceImageInformation></Description>\n"
            f' <Layout><Page ID="p1" PHYSICAL_IMG_NR="1" WIDTH="{width}" HEIGHT="{height}"><PrintSpace>\n{block * bool(lines)}'
            " </PrintSpace></Page></Layout>\n</alto>\n"
        )


def _alto_corners(element: Element) -> list[float]:
    shape = element.first("Shape")
    polygon = shape.first("Polygon") if shape is not None else None
    if polygon is not None:
        return _pairs(polygon.attributes.get("POINTS", ""))
    left, top, width, height = (_float(element.attributes.get(name, "")) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
    return box_outline(left, top, left + width, top + height)


def _content(element: Element) -> str:
    strings = [element] if element.name == "String" else element.all("String")
    return " ".join(string.attributes.get("CONTENT", "") for string in strings)
