"""From each format to each other: nothing changes that both can hold, and the rest is told."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ocrsdk.data.convert import convert, fit, write_set
from ocrsdk.data.folder import load_annotations
from ocrsdk.data.layout import find_pages
from ocrsdk.errors import AnnotationError, DataError
from ocrsdk.formats.base import PageToWrite
from ocrsdk.formats.files import LabelFile
from ocrsdk.formats.make import all_formats, make_format, read_pages
from ocrsdk.testing.formats import WORDS
from ocrsdk.types import Annotation, TextInstance

NAMES = sorted(kind.name for kind in all_formats())
TURNS = {"cord"}
"""Formats that keep don't-care regions apart, behind the others."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("one") / "a.png"
    Image.new("L", (640, 480)).save(path)
    return path


@st.composite
def regions(draw: st.DrawFn) -> list[TextInstance]:
    """Boxes, quads and outlines, on halves of pixels."""
    found = []
    for _ in range(draw(st.integers(0, 5))):
        x, y, w, h = (draw(st.integers(low, high)) / 2 for low, high in ((100, 800), (100, 600), (10, 90), (10, 60)))
        kind = draw(st.sampled_from(["box", "quad", "bent", "triangle"]))
        box = [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]
        polygon = {"box": box, "quad": [[x, y], [x + w, y + 2], [x + w - 1, y + h], [x - 1, y + h - 2]], "triangle": box[:3],
                   "bent": [box[0], [x + w / 2, y - 4], *box[1:]]}[kind]  # fmt: skip
        ignore = draw(st.booleans())
        found.append(TextInstance(np.array(polygon, np.float32), draw(st.sampled_from(WORDS)), ignore))
    return found


def key(instance: TextInstance) -> tuple[object, ...]:
    text = "" if instance.ignore and instance.text == "###" else instance.text
    return tuple(map(tuple, instance.polygon.tolist())), text, instance.ignore


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(instances=regions())
@pytest.mark.parametrize("name", NAMES)
def test_what_fits_is_read_back_and_a_second_time_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory, image: Path, name: str, instances: list[TextInstance]
):
    kind, folder, lost = make_format(name), tmp_path_factory.mktemp("set"), Counter[str]()
    page = fit(PageToWrite("a.png", "images/a.png", image, (480, 640), instances), kind, lost)
    again = Counter[str]()
    assert list(map(key, fit(page, kind, again).instances)) == list(map(key, page.instances))
    assert not set(again) - {"pages without text: the format cannot tell them"}
    (path,) = kind.write([page], folder)
    (read,) = read_pages(kind, LabelFile(path))
    assert not read.faults
    order = sorted if name in TURNS else list
    assert order(map(key, read.instances)) == order(map(key, page.instances))  # type: ignore[operator]
    untouched = [instance for instance in instances if any(instance.polygon is kept.polygon for kept in page.instances)]
    assert lost or len(untouched) == len(instances)


def small_set(folder: Path) -> Path:
    """Two pages that every format can hold: level boxes, words, no don't-care."""
    (folder / "pages").mkdir(parents=True)
    pages = []
    for number in range(2):
        path = folder / "pages" / f"p{number}.png"
        Image.new("L", (300, 200)).save(path)
        box = np.array([[10, 20], [90, 20], [90, 40], [10, 40]], np.float32)
        instances = [TextInstance(box + 30 * number, "TOTAL"), TextInstance(box + [120, 80], "9.90")]
        pages.append(PageToWrite(path.name, f"images/{path.name}", path, (200, 300), instances))
    write_set({make_format("icdar15"): pages}, folder / "icdar15", "link")
    return folder / "icdar15"


def content(annotations: list[Annotation], text: bool) -> dict[str, list[object]]:
    return {a.image.name: [(key(i)[0], i.text if text else "") for i in a.instances] for a in annotations}


@pytest.mark.slow
def test_all_formats_in_a_row(tmp_path: Path):
    """A chain of all conversions; docTR's, which has no texts, comes last."""
    start = source = small_set(tmp_path)
    for name in sorted(NAMES, key=lambda name: (name == "doctr", name)):
        done = convert(source, tmp_path / f"to-{name}", name)
        assert (done.pages, done.regions, not done.lost) == (2, 4, name != "doctr")
        source = done.folder
        assert find_pages(source).entries[0].kind.name == name
        expected = content(load_annotations(start)[0], text=name != "doctr")
        assert content(load_annotations(source)[0], text=True) == expected


@pytest.mark.slow
def test_each_pair(tmp_path: Path):
    start = small_set(tmp_path)
    for name in NAMES:
        convert(start, tmp_path / "all" / name, name)
    for source, target in permutations(NAMES, 2):
        done = convert(tmp_path / "all" / source, tmp_path / "pairs" / source / target, target)
        texts = "doctr" not in (source, target)
        assert content(load_annotations(done.folder)[0], texts) == content(load_annotations(start)[0], texts)


def test_what_is_lost_is_counted(tmp_path: Path, image: Path):
    bent = np.array([[10, 10], [50, 5], [90, 10], [90, 30], [10, 30]], np.float32)
    regions = [TextInstance(bent, "a, b"), TextInstance(bent + 100, "", True), TextInstance(bent + 200.5, "x\ny")]
    page = PageToWrite("a.png", "images/a.png", image, (480, 640), regions)
    lost = Counter[str]()
    assert len(fit(page, make_format("sroie"), lost).instances) == 2
    assert lost == {
        "don't-care regions: left out": 1,
        "outlines without exactly four corners: written as the smallest rectangle around them": 2,
        "texts with line breaks: written without what the format cannot hold": 1,
    }
    lost.clear()
    assert [i.text for i in fit(page, make_format("icdar-poly"), lost).instances] == ["a b", "", "x y"]
    assert sum(lost.values()) == 2
    lost.clear()
    fit(page, make_format("page"), lost)
    assert lost == {"coordinates that are no whole numbers from 0 on: rounded": 1}


def test_bad_samples_stop_or_are_listed(tmp_path: Path):
    source = small_set(tmp_path)
    (source / "labels/gt_p0.txt").write_text("1,2,3\n")
    with pytest.raises(AnnotationError, match=r"gt_p0\.txt:1: 3 fields.*--on-bad-sample skip"):
        convert(source, tmp_path / "out", "coco")
    assert not (tmp_path / "out").exists()
    done = convert(source, tmp_path / "out", "coco", on_bad_sample="skip", pictures="copy")
    assert (done.pages, len(done.skipped)) == (1, 1)
    assert not (tmp_path / "out/images/p1.png").is_symlink()
    with pytest.raises(DataError, match="exists and is not empty"):
        convert(source, tmp_path / "out", "coco")


@pytest.mark.slow
def test_receipts_in_each_format_are_the_same_pages(receipts: Path, tmp_path: Path):
    """What training sees: polygons and flags of each page, in their order."""
    split = receipts / "val"
    expected = {a.image.name: (a.polygons, a.ignore) for a in load_annotations(split, verify="header")[0][:20]}
    for name in ("paddleocr", "coco", "labelme", "label-studio", "page", "ufo"):
        done = convert(split, tmp_path / name, name)
        assert not done.lost or name == "page"  # whole numbers
        for a in load_annotations(done.folder, verify="header")[0]:
            if a.image.name in expected and not done.lost:
                for one, other in zip(a.polygons, expected[a.image.name][0], strict=True):
                    np.testing.assert_array_equal(one, other)
                np.testing.assert_array_equal(a.ignore, expected[a.image.name][1])
