"""Label files: golden examples of the formats, and every kind of malformed line."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from ocrsdk.data.annotations import other_files, pair_files, read_annotation, read_icdar15, read_icdar_polygons, write_labels
from ocrsdk.errors import AnnotationError, DataError
from ocrsdk.types import TextInstance


def canonical(formats: Path, image: str) -> list[dict]:
    images = json.loads((formats / "canonical.json").read_text(encoding="utf-8"))
    images = images.get("images", images)
    by_name = {unicodedata.normalize("NFC", name): entry for name, entry in images.items()}
    return by_name[unicodedata.normalize("NFC", image)]["instances"]


def check(instances: tuple[TextInstance, ...], expected: list[dict]) -> None:
    assert [i.text for i in instances if not i.ignore] == [e["text"] for e in expected if not e["ignore"]]
    assert [i.ignore for i in instances] == [e["ignore"] for e in expected]
    for instance, e in zip(instances, expected, strict=True):
        np.testing.assert_allclose(instance.polygon, e["polygon"], atol=0.51)


@pytest.mark.parametrize(
    ("label", "image"),
    [
        ("gt_receipt_01.txt", "receipt_01.jpg"),  # BOM, CRLF, commas and quotes in texts, "*" and "###"
        ("gt_영수증 02.txt", "영수증 02.png"),
        ("gt_exif6.txt", "exif6.jpg"),
        ("gt_blank_05.txt", "blank_05.jpg"),
    ],
)
def test_icdar15_examples(formats: Path, label: str, image: str):
    check(read_icdar15(formats / "icdar15" / label), canonical(formats, image))


def test_polygon_examples(formats: Path):
    check(read_icdar_polygons(formats / "icdar_poly" / "curved_04.jpg.txt"), canonical(formats, "curved_04.jpg"))


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


def test_labels_are_written_as_they_are_read(tmp_path: Path):
    quad = TextInstance(np.array([[0.25, 0], [9, 0], [9, 9], [0, 9]], np.float32), "A, B")
    hidden = TextInstance(quad.polygon + 20, "", ignore=True)
    bent = TextInstance(np.array([[0, 0], [4, 2], [9, 0], [9, 9], [0, 9]], np.float32), "bent")
    for image, instances in (("a.jpg", [quad, hidden]), ("b.jpg", [hidden, bent]), ("c.jpg", [])):
        path = write_labels(tmp_path, image, instances)
        back = read_annotation(tmp_path / image, path).instances
        assert [(i.text if not i.ignore else "", i.ignore) for i in back] == [(i.text, i.ignore) for i in instances]
        for a, b in zip(back, instances, strict=True):
            np.testing.assert_array_equal(a.polygon, b.polygon)


def make(root: Path, images: list[str], labels: list[str]) -> Path:
    for name, files in (("images", images), ("labels", labels)):
        (root / name).mkdir(parents=True)
        for file in files:
            (root / name / file).touch()
    return root


def test_pairs_and_strays(tmp_path: Path):
    root = make(
        tmp_path / "d",
        ["a.jpg", "b.png", "c.jpg", "lost.jpg", "two.jpg", "notes.md"],
        ["gt_a.txt", "b.txt", "c.jpg.txt", "gt_stray.txt", "gt_two.txt", "two.txt"],
    )
    pairs, problems = pair_files(root)
    assert [(i.name, label.name) for i, label in pairs] == [("a.jpg", "gt_a.txt"), ("b.png", "b.txt"), ("c.jpg", "c.jpg.txt")]
    text = "\n".join(map(str, problems))
    assert "lost.jpg: no label file; expected" in text
    assert "two.jpg: two label files, gt_two.txt and two.txt" in text
    assert "gt_stray.txt: a label without an image" in text


def test_names_pair_across_unicode_forms(tmp_path: Path):
    root = make(tmp_path / "d", [unicodedata.normalize("NFD", "영수증.png")], [unicodedata.normalize("NFC", "gt_영수증.txt")])
    pairs, problems = pair_files(root)
    assert len(pairs) == 1
    assert not problems


def test_missing_and_empty_folders(tmp_path: Path):
    with pytest.raises(DataError, match="no such folder"):
        pair_files(tmp_path / "none")
    with pytest.raises(DataError, match="no images/ folder"):
        pair_files(tmp_path)
    with pytest.raises(DataError, match="no images in it"):
        pair_files(make(tmp_path / "d", [], []))


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


def test_labels_of_a_mac_and_of_windows(tmp_path: Path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for image, label in (("000.JPG", "gt_000.TXT"), ("a.png", "A.txt"), ("b.JPG", "b.jpg.TXT"), ("c.Jpeg", "c.Jpeg.txt")):
        (tmp_path / "images" / image).write_bytes(b"x")
        (tmp_path / "labels" / label).write_text("")
    (tmp_path / "labels/._gt_000.txt").write_bytes(b"\0\5\x16\7")
    (tmp_path / "images/._000.JPG").write_bytes(b"\0\5\x16\7")
    pairs, problems = pair_files(tmp_path)
    assert {image.name: label.name for image, label in pairs} == {
        "000.JPG": "gt_000.TXT",
        "b.JPG": "b.jpg.TXT",
        "c.Jpeg": "c.Jpeg.txt",
    }
    assert len(problems) == 2  # a.png, and A.txt: whole names differ in more than their endings
    (tmp_path / "labels/gt_000.txt").write_text("")
    assert "remove one" in str(pair_files(tmp_path)[1][0])


def test_f80_pipes_are_not_read(tmp_path: Path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        os.mkfifo(tmp_path / folder / f"pipe.{'png' if folder == 'images' else 'txt'}")
    (tmp_path / "images/a.png").write_bytes(b"x")
    (tmp_path / "images/lost.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "labels/gt_a.txt").write_text("")
    pairs, problems = pair_files(tmp_path)
    assert [image.name for image, _ in pairs] == ["a.png"]
    assert ["lost.png" in str(problem) for problem in problems] == [True]
    assert other_files(tmp_path / "images") == ["pipe.png"]
