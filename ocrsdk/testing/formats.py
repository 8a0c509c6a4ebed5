"""Conformance of annotation formats.

::

    from ocrsdk.testing.formats import FormatSuite

    class TestMyFormat(FormatSuite):
        kind = MyFormat
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from ocrsdk.errors import AnnotationError, SettingsError
from ocrsdk.formats.base import AnnotationFormat, LabelledPage, PageToWrite
from ocrsdk.formats.files import LabelFile
from ocrsdk.formats.make import read_pages, recognises
from ocrsdk.types import TextInstance

WORDS = (
    "", "TOTAL 1,234.50", "NO.53, JALAN SAGU 18,", '"QUOTED"', "it's", "*", "영수증", "a\tb", " lead and trail ", "<b>&amp;</b>",
    "[x]: {y}",    "é\u0301", "\U0001f600", "1984", "0,1,2,3", "\\n", "two\nlines", "###", ".", "#", "x: [[1]]",
)  # fmt: skip
"""Texts that some format has stumbled over."""
Region = tuple[tuple[tuple[float, float], ...], str, bool]


class FormatSuite:
    """What every annotation format must do."""

    kind: ClassVar[type[AnnotationFormat]]
    options: ClassVar[dict[str, Any]] = {}
    mutations: ClassVar[int] = 300
    """Damaged files that are read."""

    def make(self) -> AnnotationFormat:
        """The format."""
        return self.kind(self.kind.check_options(self.options, "data.format_options"))

    def pages(self, folder: Path, count: int = 12, seed: int = 0) -> list[PageToWrite]:
        """Random pages of which the format can hold everything."""
        rng, kind = np.random.default_rng(seed), self.make()
        made = []
        for number in range(count):
            name = f"page {number}é.png" if number % 2 else f"page{number}.png"
            path = folder / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            width, height = int(rng.integers(200, 900)), int(rng.integers(200, 900))
            Image.new("L", (width, height)).save(path)
            instances = [self._region(rng, kind, width, height) for _ in range(rng.integers(0, 9))]
            if not instances and not kind.holds.empty_pages:
                instances = [self._region(rng, kind, width, height)]
            made.append(PageToWrite(name, f"images/{name}", path, (height, width), instances))
        return made

    def _region(self, rng: np.random.Generator, kind: AnnotationFormat, width: int, height: int) -> TextInstance:
        holds = kind.holds
        corners = 4 if holds.corners != "polygon" else int(rng.integers(3, 15))
        centre = np.array([rng.uniform(60, width - 60), rng.uniform(60, height - 60)])
        if holds.corners == "box":
            w, h = rng.uniform(5, 50, 2)
            polygon = centre + np.array([[-w, -h], [w, -h], [w, h], [-w, h]])
        else:
            angle = np.sort((np.arange(corners) + rng.uniform(0.1, 0.9, corners)) * 2 * np.pi / corners)
            polygon = centre + np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.uniform(30, 55)
        exact = polygon.astype(np.float32) if holds.fractions and rng.random() < 0.7 else polygon.round().astype(np.float32)
        ignore = holds.ignore and rng.random() < 0.2
        text = str(rng.choice(WORDS)) if holds.text and (not ignore or holds.ignored_text) else ""
        instance = TextInstance(exact, text, ignore)
        return TextInstance(exact, kind.written_text(text), ignore) if kind.unwritable(instance) else instance

    def found(self, page: LabelledPage | PageToWrite) -> list[Region]:
        """The regions of a page, in an order of their own."""
        holds = self.make().holds
        return sorted(
            (tuple((float(x), float(y)) for x, y in i.polygon), _text(i) if not i.ignore or holds.ignored_text else "", i.ignore)
            for i in page.instances
        )

    def read(self, kind: AnnotationFormat, path: Path) -> list[LabelledPage]:
        """All pages of a file."""
        return list(read_pages(kind, LabelFile(path)))

    def test_what_is_written_is_read_back(self, tmp_path: Path) -> None:
        """What is written is read back, all of it."""
        kind, pages = self.make(), self.pages(tmp_path)
        written = kind.write(pages, tmp_path)
        assert all(path.is_file() for path in written)
        read = [page for path in written for page in self.read(kind, path)]
        assert [page.faults for page in read] == [[] for _ in pages]
        assert [self.found(page) for page in read] == [self.found(page) for page in pages]
        if kind.per_image:
            assert len(written) == len(pages)
            assert all(path.name in kind.label_names(page.name) for path, page in zip(written, pages, strict=True))
        else:
            assert [Path(page.image).name for page in read] == [page.name for page in pages]

    def test_its_own_files_are_recognised_and_found_with_their_images(self, tmp_path: Path) -> None:
        """Written files are recognised, and their images found."""
        from ocrsdk.data.layout import find_pages

        kind, pages = self.make(), self.pages(tmp_path)
        for path in kind.write(pages, tmp_path):
            assert recognises(kind, LabelFile(path)) or not path.read_text(encoding="utf-8").strip()
        layout = find_pages(tmp_path, kind.name if _is_installed(kind) else None, self.options)
        assert not layout.problems
        there = {entry.image.name: self.found(entry.read()) for entry in layout.entries}
        assert there == {page.name: self.found(page) for page in pages}

    def test_nonsense_is_not_recognised(self, tmp_path: Path) -> None:
        """Neither is what is no label file."""
        for ending in self.kind.endings:
            for content in (b"", b"hello", b"{}", b"[]", b"<a/>", b"\xff\xfe\x00", b"\0" * 9, b"[" * 5000, b'{"a": 1, "a": 2}'):
                path = tmp_path / f"file{ending}"
                path.write_bytes(content)
                assert not recognises(self.make(), LabelFile(path))

    def test_a_damaged_file_gives_pages_or_an_error_that_names_it(self, tmp_path: Path) -> None:
        """Nothing else, whatever is in the file."""
        kind = self.make()
        rng = np.random.default_rng(1)
        originals = [path.read_bytes() for path in kind.write(self.pages(tmp_path, 4), tmp_path)]
        path = tmp_path / f"damaged{kind.endings[0]}"
        damaged = (damage(originals[int(rng.integers(len(originals)))], rng) for _ in range(self.mutations))
        for content in itertools.chain(_OTHERS, damaged):
            path.write_bytes(content)
            pages, errors = list[LabelledPage](), list[str]()
            try:
                pages = self.read(kind, path)
            except AnnotationError as error:
                errors.append(str(error))
            for instance in (instance for page in pages for instance in page.instances):
                assert instance.polygon.dtype == np.float32
                assert instance.polygon.shape[1:] == (2,)
                assert len(instance.polygon) >= 3
                assert np.isfinite(instance.polygon).all()
                assert isinstance(instance.text, str)
            errors += [str(page.error(fault)) for page in pages for fault in page.faults]
            assert all(str(path) in error and "\n" not in error for error in errors)

    def test_an_unknown_option_is_refused(self) -> None:
        """As with every plug-in."""
        with pytest.raises(SettingsError, match="no_such"):
            self.kind.check_options({"no_such": 1}, "data.format_options")


def _text(instance: TextInstance) -> str:
    return "" if instance.ignore and instance.text.strip() == "###" else instance.text


def _is_installed(kind: AnnotationFormat) -> bool:
    from ocrsdk.plugins.manager import installed

    return installed().classes("annotation format").get(kind.name) is type(kind)


_OTHERS = (
    b"", b"3", b"-1.5e9", b"null", b'"text"', b"[1]", b"[[]]", b"[{}]", b"[null]", b'{"a": 3}', b'{"a": [3]}', b'{"images": 3}',
    b'{"images": [3], "annotations": [3]}', b'{"imgs": {"1": 3}, "anns": {"1": 3}}', b'{"data_list": [3]}', b'{"shapes": [3]}',
    b'{"form": [3]}', b'{"valid_line": [3]}', b'[{"data": 3, "annotations": 3}]', b'[{"data": {}, "annotations": [3]}]',
    b'{"valid_line": [], "meta": {"image_size": {"height": 1e999, "width": 1e999}}}', b"<a/>", b"<PcGts/>",
    b"<PcGts><Page/></PcGts>",
    b'<alto><Page HEIGHT="' + b"9" * 5001 + b'"/></alto>', b"<alto/>", b"a.jpg\t3", b"a.jpg\t[3]", b",,,,,,,,,", b"x: [[1]]",
    b'<PcGts><Page><TextLine><Coords points="1,1"/><TextEquiv index="' + b"9" * 5001 + b'"/></TextLine></Page></PcGts>',
)  # fmt: skip
"""Files that are whole, and not what is expected."""
_PIECES = (
    b"NaN", b"Infinity", b"-1e308", b"1e999", b"null", b"true", b"[]", b"{}", b'""', b"\0", b"\xff", b"\xef\xbb\xbf", b",", b"\n",
    b'"', b"]",    b"9" * 5000, b"<!ENTITY a 'b'>", b"&a;", b"-", b" ", b"<", b"\r\n", b"\xf0\x9f\x98\x80",
)  # fmt: skip


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """A file as accidents leave it: bytes changed, cut out, doubled, put in; numbers and words exchanged."""
    for _ in range(int(rng.integers(1, 4))):
        at, length = int(rng.integers(len(data) + 1)), int(rng.integers(1, 40))
        match int(rng.integers(5)):
            case 0:
                data = data[:at] + bytes([int(rng.integers(256))]) + data[at + 1 :]
            case 1:
                data = data[:at] + data[at + length :]
            case 2:
                data = data[:at] + data[at : at + length] + data[at:]
            case 3:
                data = data[:at] + _PIECES[int(rng.integers(len(_PIECES)))] + data[at + int(rng.integers(2)) * length :]
            case _:
                data = data[:at]
    return data
