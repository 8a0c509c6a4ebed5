"""Text files of one region a line: every kind of malformed line, and texts that look like numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ocrsdk.errors import AnnotationError
from ocrsdk.formats.files import LabelFile
from ocrsdk.formats.make import make_format, read_pages
from ocrsdk.types import TextInstance


def read(path: Path, name: str) -> list[TextInstance]:
    """The regions of a file; its first fault is raised."""
    (page,) = read_pages(make_format(name), LabelFile(path))
    for fault in page.faults:
        raise page.error(fault)
    return page.instances


def read_icdar15(path: Path) -> list[TextInstance]:
    return read(path, "icdar15")


def read_icdar_polygons(path: Path) -> list[TextInstance]:
    return read(path, "icdar-poly")


def test_labels_of_receipts_lose_nothing(receipts: Path):
    """Counts from plain text handling: none ignored, commas kept; of the real ones, 12,101 lines."""
    lines = instances = 0
    for path in sorted(receipts.glob("*/labels/*.txt")):
        raw = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        read = read_icdar15(path)
        assert [i.text for i in read] == [line.split(",", 8)[8] for line in raw]
        assert not any(i.ignore for i in read)
        lines, instances = lines + len(raw), instances + len(read)
    assert lines == instances == (12_101 if receipts.name == "sroie-mini" else 489)


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_bom_and_line_ends(tmp_path: Path, ending: str, bom: str):
    path = tmp_path / "gt.txt"
    path.write_bytes((bom + f"0,0,9,0,9,9,0,9,A, B,{ending}").encode())
    (instance,) = read_icdar15(path)
    assert instance.text == "A, B,"


@pytest.mark.parametrize(
    ("text", "ignored"),
    [
        ("###", True), (" ###", True), ('"###"', True), (" '###' ", True), ("None,###", True), ('1,"###"', True),
        ("Latin, ###", True), ("*", False), ("####", False), ("# ##", False), ("a###", False), ("", False),
    ],
)  # fmt: skip
def test_only_three_hashes_mean_ignore(tmp_path: Path, text: str, ignored: bool):
    path = tmp_path / "gt.txt"
    path.write_text(f"0,0,9,0,9,9,0,9,{text}\n")
    assert read_icdar15(path)[0].ignore is ignored


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("0,0,9,0,9,9,0", "7 fields, expected 8 coordinates"),
        ("0,0,9,0,9,9,x,9,A", "coordinate 'x' is not a number"),
        ("0,0,9,0,9,9,nan,9,A", "coordinate 'nan' is not finite"),
        ("0,0,9,0,9,9,inf,9,A", "coordinate 'inf' is not finite"),
        ("0,0,9,9,9,0,0,9,A", "crosses itself"),
        ("0,0,9,0,5,0,0,0,A", "crosses itself, touches itself or has no area"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, what: str):
    path = tmp_path / "gt_1.txt"
    path.write_text(f"0,0,9,0,9,9,0,9,fine\n{line}\n")
    with pytest.raises(AnnotationError, match=rf"gt_1\.txt:2: .*{what}"):
        read_icdar15(path)


def test_an_odd_number_of_polygon_coordinates_is_named(tmp_path: Path):
    path = tmp_path / "a.jpg.txt"
    path.write_text("0,0,9,0,9,9,0,9,1,A\n")
    with pytest.raises(AnnotationError, match=r"a\.jpg\.txt:1: 9 coordinates before the text"):
        read_icdar_polygons(path)


def test_not_utf8(tmp_path: Path):
    path = tmp_path / "gt.txt"
    path.write_bytes(b"0,0,9,0,9,9,0,9,\xff\n")
    with pytest.raises(AnnotationError, match="not UTF-8"):
        read_icdar15(path)


QUAD = "100,100,200,100,200,130,100,130"


def outline(points: int) -> str:
    """A half ring, outer edge and inner edge."""
    angle = np.linspace(0, np.pi, points // 2)
    edges = [np.stack([400 - radius * np.cos(angle), 400 - radius * np.sin(angle)], axis=1) for radius in (300, 250)]
    return ",".join(f"{value:.0f}" for value in np.concatenate([edges[0], edges[1][::-1]]).ravel())


@pytest.mark.parametrize("text", [",arc", ",1984", ",a, b", ""])
@pytest.mark.parametrize("points", [6, 10, 14, 20])
def test_f79_an_outline_in_a_file_of_quads_is_refused(tmp_path: Path, points: int, text: str):
    path = tmp_path / "gt.txt"
    path.write_text(f"{QUAD},good\n{outline(points)}{text}\n")
    if text == ",a, b":
        read_icdar15(path)  # cannot be told from a text: the last number is followed by two fields
        return
    with pytest.raises(AnnotationError, match=r"gt.txt:2: \d+ fields, which look like the outline"):
        read_icdar15(path)


@pytest.mark.parametrize("text", ["1,234,567", "12,45", "1,2,3", "12,000.00", "1,234,567,890", "3,4,5,6", "7", "A,1,2", "1,2,B,3"])
def test_numbers_in_a_text_are_no_corners(tmp_path: Path, text: str):
    path = tmp_path / "gt.txt"
    path.write_text(f"{QUAD},{text}\n")
    (instance,) = read_icdar15(path)
    assert instance.text == text
    assert len(instance.polygon) == 4


@pytest.mark.parametrize("text", ["1,234,567", "12,345,678", "1,2,3"])
def test_f79_a_text_with_commas_is_no_corner(tmp_path: Path, text: str):
    path = tmp_path / "a.jpg.txt"
    path.write_text(f"{QUAD},{text}\n")
    with pytest.raises(AnnotationError, match="lies far from the first four"):
        read_icdar_polygons(path)


def test_f79_shares_of_the_page_are_refused(tmp_path: Path):
    path = tmp_path / "gt.txt"
    path.write_text("0.1,0.1,0.5,0.1,0.5,0.2,0.1,0.2,A\n0.1,0.3,1.01,0.3,1.01,0.4,0.1,0.4,B\n")
    with pytest.raises(AnnotationError, match="between 0 and 1"):
        read_icdar15(path)
