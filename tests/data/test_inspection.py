"""Each kind of finding, put into a set that is otherwise fine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ocrsdk.data.inspection import KINDS, Inspection, Rules, inspect_data
from ocrsdk.data.layout import PageSource
from ocrsdk.data.preparation import Preparation
from ocrsdk.data.synth import write_pages

RULES = Rules(Preparation(832, 2560), 0.9, 8.0)


@pytest.fixture(scope="module")
def fine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fine")
    list(write_pages(root, 4, 0, scenes=0))
    return root


def label(root: Path, number: int = 0) -> Path:
    return root / f"labels/gt_{number:04d}.txt"


def lines(root: Path, number: int, change: Callable[[list[str]], list[str]]) -> None:
    path = label(root, number)
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def put_first(text: str) -> Callable[[Path], None]:
    return lambda root: lines(root, 0, lambda old: [text, *old])


def other_bytes(root: Path) -> None:
    (root / "images/0001.png").write_bytes(b"no image")


def blank(root: Path) -> None:
    size = Image.open(root / "images/0001.png").size
    Image.new("RGB", size, (9, 9, 9)).save(root / "images/0001.png")


def copied(root: Path) -> None:
    shutil.copyfile(root / "images/0001.png", root / "images/0009.png")
    label(root, 9).write_text("")


def turned(root: Path) -> None:
    """x and y exchanged on every page."""
    for number in range(4):

        def exchange(old: list[str]) -> list[str]:
            fields = [line.split(",", 8) for line in old]
            return [",".join([v for i in (0, 2, 4, 6) for v in (f[i + 1], f[i])] + f[8:]) for f in fields]

        lines(root, number, exchange)


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "coordinates": (put_first("1,2,3"), r"gt_0000\.txt:1: 3 fields"),
    "unit": (lambda root: label(root).write_text("0.1,0.1,0.5,0.1,0.5,0.2,0.1,0.2,A\n"), "between 0 and 1"),
    "shape": (put_first("10,10,50,30,50,10,10,30,A"), r"gt_0000\.txt:1: the polygon crosses itself"),
    "outside": (put_first("-40,10,50,10,50,40,-40,40,A"), r"gt_0000\.txt:1: reaches 40 pixels beyond"),
    "duplicate": (lambda root: lines(root, 0, lambda old: [*old, old[2]]), "the same corners as region 3"),
    "small": (put_first("10,10,50,10,50,12,10,12,A"), r"gt_0000\.txt:1: \d\.\d pixels tall in training at most"),
    "ignored": (lambda root: label(root).write_text("10,10,50,10,50,30,10,30,###\n"), "all 1 regions are don't-care"),
    "pairing": (lambda root: label(root).unlink(), "0000.png: no label file"),
    "label": (lambda root: label(root).write_bytes("1,1,9,1,9,9,1,9,é\n".encode("latin-1")), "not UTF-8"),
    "image": (other_bytes, "0001.png: "),
    "copy": (copied, "0009.png: has the same bytes as .*0001.png"),
    "doubt": (turned, "exchanged"),
}


def inspect(root: Path, decode: bool = False) -> Inspection:
    return inspect_data([[PageSource(root)]], RULES, decode)


def test_a_fine_set(fine: Path):
    report = inspect(fine, decode=True)
    assert not report.findings
    assert (report.pages, report.formats) == (4, ["icdar15"])


@pytest.mark.parametrize("kind", CASES)
def test_a_finding_of_each_kind(fine: Path, tmp_path: Path, kind: str):
    root = shutil.copytree(fine, tmp_path / "set")
    change, message = CASES[kind]
    change(root)
    report = inspect(root)
    found = report.by_kind()
    assert kind in found
    if kind not in ("label", "doubt"):
        assert set(found) <= {kind, "small", "outside"}
    import re

    assert re.search(message, found[kind][0].message)
    assert report.errors == sum(len(f) for k, f in found.items() if KINDS[k].level == "error")
    assert report.as_dict()["counts"] == {k: len(f) for k, f in found.items()}


def test_findings_that_need_pixels_or_two_splits_or_another_format(fine: Path, tmp_path: Path):
    root = shutil.copytree(fine, tmp_path / "set")
    blank(root)
    assert set(inspect(root, decode=True).by_kind()) == {"blank"}
    assert not inspect(root).findings
    other = tmp_path / "val"
    list(write_pages(other, 2, 5, scenes=0))
    shutil.copyfile(fine / "images/0002.png", other / "images/0000.png")
    report = inspect_data([[PageSource(fine)], [PageSource(other)]], RULES)
    assert [finding.kind for finding in report.findings if finding.kind not in ("small", "outside", "doubt")] == ["leak"]
    (tmp_path / "images").mkdir()
    Image.new("L", (60, 90)).save(tmp_path / "images/a.png")
    box = '"points": [[1, 1], [50, 1], [50, 40], [1, 40]], "label": "A", "shape_type": "polygon"'
    (tmp_path / "a.json").write_text(f'{{"shapes": [{{{box}}}],\n "imagePath": "a.png", "imageHeight": 60, "imageWidth": 90}}')
    (finding,) = inspect_data([[PageSource(tmp_path / "a.json")]], RULES).findings
    assert finding.kind == "size"
    assert "says 90 x 60, the image has 60 x 90, turned by 90 degrees" in finding.message


def test_every_problem_of_a_file_is_told(fine: Path, tmp_path: Path):
    root = shutil.copytree(fine, tmp_path / "set")
    lines(root, 1, lambda old: ["1,2", "a,b,c,d,e,f,g,h,i", *old, "5,5,nan,5,9,9,5,9,x"])
    found = inspect(root).by_kind()["coordinates"]
    count = len(label(root, 1).read_text().splitlines())
    assert [finding.line for finding in found] == [1, 2, count]
