"""What was read of a data set is used again, and never when anything has changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ocrsdk.data import index
from ocrsdk.data.folder import DataReport, load_annotations
from ocrsdk.data.index import PageIndexes
from ocrsdk.data.synth import write_pages
from ocrsdk.data.table import PageTable
from ocrsdk.errors import DataError
from tests.data.test_listing import rewrite
from tests.data.test_table import told


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    list(write_pages(tmp_path / "pages", 4, 1, scenes=0.5))
    monkeypatch.setattr(index, "_SETTLED", 0)  # they are older than this test in the real world
    return tmp_path / "pages"


def read(pages: Path, **how: Any) -> tuple[PageTable, DataReport]:
    return load_annotations(pages, indexes=PageIndexes(pages.parent / "indexes"), **how)


def kept(pages: Path) -> list[tuple[str, int]]:
    """Each index, and when it was written."""
    return sorted((path.parent.name, path.stat().st_mtime_ns) for path in (pages.parent / "indexes").glob("*/index.json"))


def test_the_second_reading_is_the_first(pages: Path):
    (pages / "images/strange.xyz").touch()
    first, report = read(pages)
    written = kept(pages)
    second, again = read(pages)
    plain, _ = load_annotations(pages)
    assert kept(pages) == written
    assert told(list(second)) == told(list(first)) == told(list(plain))
    assert list(again.extents) == list(report.extents)
    assert (again.images, again.formats, again.unread) == (4, report.formats, ["strange.xyz"])
    assert all(isinstance(values.base, object) and not values.flags.writeable for values in second.arrays.values())


def test_the_manner_of_reading_leads_to_the_pages(pages: Path):
    """They are mapped as they were, and told by the manner in which they were read alone."""
    first, _ = read(pages)
    how = index.manner(
        pages, None, on_bad_sample="stop", outside="clip", verify="decode", on_bad_box="stop", format=None, format_options={}
    )
    found = PageIndexes(pages.parent / "indexes").load(how, dict)
    assert found is not None
    assert told(list(found[0])) == told(list(first))


CHANGES: dict[str, Callable[[Path], object]] = {
    "a label with other bytes": lambda pages: rewrite(next((pages / "labels").iterdir())),
    "an image with other bytes": lambda pages: rewrite_bytes(pages / "images/0000.png"),
    "a page more": lambda pages: [
        shutil.copy(pages / "images/0000.png", pages / "images/9.png"), (pages / "labels/9.txt").touch()
    ],
    "a page less": lambda pages: [path.unlink() for path in pages.glob("*/*0000.*")],
    "a folder of labels more": lambda pages: (pages / "gt").mkdir(),
}  # fmt: skip


def rewrite_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"behind the end")


@pytest.mark.parametrize("change", CHANGES)
def test_after_any_change_all_is_read_again(pages: Path, change: str):
    read(pages)
    written = kept(pages)
    CHANGES[change](pages)
    try:
        expected = told(list(load_annotations(pages)[0]))
    except DataError as error:  # a label read backwards is none
        with pytest.raises(DataError, match=str(error)[-20:-5]):
            read(pages)
        return
    assert told(list(read(pages)[0])) == expected
    assert len(kept(pages)) == 1
    assert kept(pages) != written


def test_each_way_of_reading_has_its_own(pages: Path):
    read(pages)
    for number, how in enumerate(
        ({"verify": "header"}, {"outside": "ignore"}, {"on_bad_box": "drop"}, {"on_bad_sample": "skip"}), 2
    ):
        read(pages, **how)
        assert len(kept(pages)) == number


def test_files_that_are_being_written_are_not_kept(tmp_path: Path):
    list(write_pages(tmp_path / "pages", 2, 1, scenes=0))
    read(tmp_path / "pages")
    assert not kept(tmp_path / "pages")


@pytest.mark.parametrize("damage", ["other bytes", "a file less", "no JSON", "an empty file", "no report"])
def test_a_damaged_index_is_told_and_replaced(pages: Path, damage: str):
    first = told(list(read(pages)[0]))
    (place,) = (pages.parent / "indexes").iterdir()
    if damage == "other bytes":
        data = bytearray((place / "points.npy").read_bytes())
        data[-3] ^= 1
        (place / "points.npy").write_bytes(data)
    elif damage == "a file less":
        (place / "texts.npy").unlink()
    elif damage == "an empty file":
        (place / "paths.npy").write_bytes(b"")
    elif damage == "no report":
        document = json.loads((place / "index.json").read_text())
        (place / "index.json").write_text(json.dumps({**document, "report": {}}))
    else:
        (place / "index.json").write_text("{")
    with capture_logs() as logs:
        again, _ = read(pages)
    assert ["damaged" in entry["event"] for entry in logs] == ([] if damage == "a file less" else [True])
    assert told(list(again)) == first
    with capture_logs() as logs:
        read(pages)
    assert logs == []


def test_an_index_of_a_set_that_is_gone_is_removed(pages: Path):
    read(pages)
    other = pages.parent / "other"
    shutil.copytree(pages, other)
    load_annotations(other, indexes=PageIndexes(pages.parent / "indexes"))
    assert len(kept(pages)) == 2
    shutil.rmtree(other)
    (pages / "labels/new.txt").touch()
    shutil.copy(pages / "images/0000.png", pages / "images/new.png")
    read(pages)
    assert len(kept(pages)) == 1
    assert [path.name for path in PageIndexes(pages.parent / "indexes").kept()] == [name for name, _ in kept(pages)]


def test_a_folder_that_cannot_be_written_is_told(pages: Path):
    (pages.parent / "indexes").write_text("a file")
    with capture_logs() as logs:
        found, _ = read(pages)
    assert len(found) == 4
    assert ["cannot be kept" in entry["event"] for entry in logs if entry["log_level"] == "warning"][-1]


def test_relative_paths_lead_to_pages_of_the_folder_they_are_written_in(pages: Path, monkeypatch: pytest.MonkeyPatch):
    """The same set from two folders, and two sets of one name: never the pages of one where the other's are meant."""
    monkeypatch.chdir(pages.parent)
    indexes = PageIndexes(pages.parent / "indexes")
    first = load_annotations(Path("pages"), indexes=indexes)[0]
    assert first.image(0) == Path("pages/images/0000.png")
    monkeypatch.chdir(pages)
    assert load_annotations(Path(), indexes=indexes)[0].image(0).is_file()
    assert load_annotations(pages, indexes=indexes)[0].image(0) == pages / "images/0000.png"
    other = pages.parent / "elsewhere/pages"
    list(write_pages(other, 2, 7, scenes=0))
    monkeypatch.chdir(other.parent)
    assert len(load_annotations(Path("pages"), indexes=indexes)[0]) == 2


def test_options_of_a_format_may_be_of_any_type(pages: Path):
    how = index.manner(pages, Path("x"), format_options={"since": Path("a"), "levels": (1, 2)})
    assert how == json.loads(json.dumps(how))


def test_an_edited_reader_reads_again(tmp_path: Path):
    (tmp_path / "reader.py").write_text("a = 1")
    before = index._digest_of([tmp_path / "reader.py"])
    (tmp_path / "reader.py").write_text("a = 2")
    assert index._digest_of([tmp_path / "reader.py"]) != before
