"""Every built-in format: its conformance suite, and the golden examples."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from ocrsdk.data.layout import find_pages
from ocrsdk.errors import DataError
from ocrsdk.formats.files import LabelFile
from ocrsdk.formats.make import all_formats, make_format, read_pages
from ocrsdk.testing.formats import FormatSuite
from tests.conftest import SHARED

SUITES = {}
for _kind in map(type, all_formats()):
    _name = "Test" + "".join(part.capitalize() for part in _kind.name.split("-"))
    SUITES[_kind.name] = globals()[_name] = type(_name, (FormatSuite,), {"kind": _kind})


def canonical(formats: Path) -> dict[str, dict[str, Any]]:
    images = json.loads((formats / "canonical.json").read_text(encoding="utf-8"))
    return {unicodedata.normalize("NFC", name): entry for name, entry in images.items()}


@pytest.fixture
def formats() -> Path:
    """The examples that were drawn by hand."""
    if not (SHARED / "formats").is_dir():
        pytest.skip("the golden examples of annotation formats are not there")
    return SHARED / "formats"


COMMAS, CURVES = "commas", "curves"
EXAMPLES = [
    # path, format, how many pages, what it cannot hold
    ("icdar15", "icdar15", 5, {CURVES}),
    ("icdar_poly", "icdar-poly", 5, {COMMAS}),
    ("sroie", "sroie", 2, {"ignore"}),
    ("icdar13/train_gt_receipt_01.txt", "icdar13", 1, set()),
    ("icdar13/test_gt_receipt_01.txt", "icdar13", 1, set()),
    ("totaltext", "totaltext", 1, {"more"}),
    ("paddleocr", "paddleocr", 5, set()),
    ("doctr/labels.json", "doctr", 4, {"ignore", "text", CURVES}),
    ("mmocr/textdet_train.json", "mmocr", 5, set()),
    ("mmocr/instances_train_0x.json", "coco", 5, set()),
    ("cocotext", "cocotext", 5, set()),
    ("textocr", "textocr", 5, set()),
    ("ufo/train_full.json", "ufo", 5, set()),
    ("ufo/train_reduced.json", "ufo", 5, {"text", "marks"}),
    ("labelme", "labelme", 1, {"more"}),
]


@pytest.mark.parametrize(("path", "name", "count", "without"), EXAMPLES)
def test_the_golden_examples(formats: Path, path: str, name: str, count: int, without: set[str]):
    expected, layout = canonical(formats), find_pages(formats / path)
    assert {entry.kind.name for entry in layout.entries} == {name}
    assert len(layout.entries) == count
    for entry in layout.entries:
        page, truth = entry.read(), expected[unicodedata.normalize("NFC", entry.image.name)]
        assert not page.faults
        assert page.size in (None, (truth["height"], truth["width"]))
        want = [
            i for i in truth["instances"]
            if not (i["ignore"] and "ignore" in without) and not (len(i["polygon"]) > 4 and CURVES in without)
        ]  # fmt: skip
        found = page.instances[: len(want)] if "more" in without else page.instances
        assert [i.polygon.tolist() for i in found] == [i["polygon"] for i in want]
        assert "marks" in without or [i.ignore for i in found] == [i["ignore"] for i in want]
        for instance, wanted in zip(found, want, strict=True):
            if "text" not in without and not instance.ignore:
                text = wanted["text"].replace(",", "") if COMMAS in without else wanted["text"]
                assert instance.text == text


def test_words_and_entities_of_the_examples_of_forms(formats: Path):
    (page,) = read_pages(make_format("funsd"), LabelFile(formats / "funsd/receipt_01.json"))
    assert [i.text for i in page.instances] == ["TOTAL", "1,234.50"]
    (page,) = read_pages(make_format("funsd", {"level": "entity"}), LabelFile(formats / "funsd/receipt_01.json"))
    assert [i.text for i in page.instances] == ["TOTAL 1,234.50", ""]
    (page,) = read_pages(make_format("cord"), LabelFile(formats / "cord/receipt_01.json"))
    assert [(i.text, i.ignore) for i in page.instances] == [("TOTAL 1,234.50", False), ("", True)]
    (page,) = read_pages(make_format("doctr"), LabelFile(formats / "doctr/labels_multiclass.json"))
    assert len(page.instances) == 2


def test_a_folder_with_several_sets_wants_one_named(formats: Path):
    with pytest.raises(DataError, match=r"several files hold labels of a whole set: .*train_full.json.*; name one"):
        find_pages(formats / "ufo")


def test_images_that_a_set_names_and_that_are_not_there(formats: Path):
    problems = find_pages(formats / "ufo/train_reduced.json").problems
    assert len(problems) == 2
    assert all("train_reduced.json:" in str(problem) and "no image" in str(problem) for problem in problems)


@pytest.mark.parametrize(
    ("content", "ending", "given", "looks"),
    [
        ('a.jpg\t[{"transcription": "A", "points": [[0, 0], [9, 0], [9, 9], [0, 9]]}]\n', ".txt", "icdar15", "paddleocr"),
        ("0,0,9,0,9,9,0,9,Latin,word\n" * 3, ".txt", "rctw", "mlt"),
        ('{"images": [], "annotations": []}', ".json", "mmocr", "coco"),
        ('{"shapes": []}', ".json", "coco", "labelme"),
        ("<alto/>", ".xml", "page", "alto"),
    ],
)
def test_another_format_is_named(tmp_path: Path, content: str, ending: str, given: str, looks: str):
    """As the one thing to type."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").write_bytes(b"x")
    path = tmp_path / f"a{ending}"
    path.write_text(content)

    def first_error() -> None:
        page = find_pages(path, given).entries[0].read()
        raise page.error(page.faults[0])

    with pytest.raises(DataError, match=f"This looks like {looks}: add --format {looks}"):
        first_error()
