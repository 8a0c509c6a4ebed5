"""Which label belongs to which image, in the layouts that data sets have."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from ocrsdk.data.layout import find_pages
from ocrsdk.data.listing import other_files
from ocrsdk.errors import DataError


def pairs_in(root: Path) -> tuple[list[tuple[Path, Path]], list[DataError]]:
    layout = find_pages(root)
    return [(entry.image, entry.label) for entry in layout.entries], layout.problems


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
    pairs, problems = pairs_in(root)
    assert [(i.name, label.name) for i, label in pairs] == [("a.jpg", "gt_a.txt"), ("b.png", "b.txt"), ("c.jpg", "c.jpg.txt")]
    text = "\n".join(map(str, problems))
    assert "lost.jpg: no label file; expected" in text
    assert "two.jpg: two label files, gt_two.txt and two.txt" in text
    assert "gt_stray.txt: a label without an image" in text


def test_a_folder_in_place_of_a_label_file_is_told(tmp_path: Path):
    root = make(tmp_path / "d", ["a.jpg", "b.png"], ["gt_a.txt"])
    (root / "labels/gt_b.txt").mkdir()
    pairs, problems = pairs_in(root)
    assert [image.name for image, _ in pairs] == ["a.jpg"]
    assert "labels/gt_b.txt: is a folder, where a label file was expected" in str(problems[0])
    (root / "labels/gt_a.txt").unlink()
    pairs, problems = pairs_in(root)
    assert (pairs, len(problems)) == ([], 3)


def test_names_pair_across_unicode_forms(tmp_path: Path):
    root = make(tmp_path / "d", [unicodedata.normalize("NFD", "영수증.png")], [unicodedata.normalize("NFC", "gt_영수증.txt")])
    pairs, problems = pairs_in(root)
    assert len(pairs) == 1
    assert not problems


def test_missing_and_empty_folders(tmp_path: Path):
    with pytest.raises(DataError, match="no such folder"):
        find_pages(tmp_path / "none")
    with pytest.raises(DataError, match=r"no label files in it .*; expected images/ and labels/ in it"):
        find_pages(tmp_path)
    with pytest.raises(DataError, match="no images in it"):
        find_pages(make(tmp_path / "d", [], []))


def test_labels_of_a_mac_and_of_windows(tmp_path: Path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for image, label in (("000.JPG", "gt_000.TXT"), ("a.png", "A.txt"), ("b.JPG", "b.jpg.TXT"), ("c.Jpeg", "c.Jpeg.txt")):
        (tmp_path / "images" / image).write_bytes(b"x")
        (tmp_path / "labels" / label).write_text("")
    (tmp_path / "labels/._gt_000.txt").write_bytes(b"\0\5\x16\7")
    (tmp_path / "images/._000.JPG").write_bytes(b"\0\5\x16\7")
    pairs, problems = pairs_in(tmp_path)
    assert {image.name: label.name for image, label in pairs} == {
        "000.JPG": "gt_000.TXT",
        "b.JPG": "b.jpg.TXT",
        "c.Jpeg": "c.Jpeg.txt",
    }
    assert len(problems) == 2  # a.png, and A.txt: whole names differ in more than their endings
    (tmp_path / "labels/gt_000.txt").write_text("")
    assert "remove one" in str(find_pages(tmp_path).problems[0])


def test_f80_pipes_are_not_read(tmp_path: Path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        os.mkfifo(tmp_path / folder / f"pipe.{'png' if folder == 'images' else 'txt'}")
    (tmp_path / "images/a.png").write_bytes(b"x")
    (tmp_path / "images/lost.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "labels/gt_a.txt").write_text("")
    pairs, problems = pairs_in(tmp_path)
    assert [image.name for image, _ in pairs] == ["a.png"]
    assert ["lost.png" in str(problem) for problem in problems] == [True]
    assert other_files(tmp_path / "images") == ["pipe.png"]


def test_names_of_every_kind_and_links_in_a_loop(tmp_path: Path):
    names = ["a\nb.png", "\U0001f600.png", "é" * 120 + ".png", "-rf.png", "a b%20c#.png", ".png.png"]
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for name in names[:5]:
        (tmp_path / "images" / name).write_bytes(b"x")
        (tmp_path / "labels" / f"{name[:-4]}.txt").write_text("")
    (tmp_path / "labels/loop.txt").symlink_to("loop.txt")
    pairs, problems = pairs_in(tmp_path)
    assert {image.name: label.name for image, label in pairs} == {name: f"{name[:-4]}.txt" for name in names[:5]}
    assert ["loop.txt" in str(problem) for problem in problems] == [True]
    (tmp_path / "self").symlink_to("self")
    with pytest.raises(DataError, match="self: "):
        find_pages(tmp_path / "self")


@pytest.mark.parametrize(
    ("line", "kind"),
    [("1,2", "icdar15"), ("0,0,9,0,9,9,0,9,Latin,A", "mlt"), ("0,0,9,0,9,9,0,9,1,\"A\"", "rctw"), ('1 2 30 40 "A"', "icdar13"),
     ("0,0,9,0,9,9,0,9,Latin", "icdar15"), ("", "icdar15")],
)  # fmt: skip
def test_text_files_are_of_the_format_that_fits_and_icdar_2015_if_none_does(tmp_path: Path, line: str, kind: str):
    make(tmp_path / "d", ["a.jpg"], [])
    (tmp_path / "d/labels/gt_a.txt").write_text(f"{line}\n")
    assert [entry.kind.name for entry in find_pages(tmp_path / "d").entries] == [kind]


def test_absolute_paths_in_a_label_file(tmp_path: Path):
    """The file of the name, and the same file under another name is told."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images/x.png").touch()
    line = '[{"transcription": "a", "points": [[0, 0], [9, 0], [9, 9], [0, 9]]}]'
    (tmp_path / "Label.txt").write_text(f"{tmp_path}/images/x.png\t{line}\nimages/x.png\t{line}\n\u3000\n")
    pairs, problems = pairs_in(tmp_path)
    assert [image for image, _ in pairs] == [tmp_path / "images/x.png"]
    assert ["Label.txt:2: 'images/x.png' is the image of 'x.png', too" in str(problem) for problem in problems] == [True]


def test_names_that_differ_in_the_case_of_their_ending(tmp_path: Path):
    (tmp_path / "images").mkdir()
    for name in ("x.PNG", "x.png"):
        (tmp_path / "images" / name).touch()
    line = '[{"transcription": "a", "points": [[0, 0], [9, 0], [9, 9], [0, 9]]}]'
    (tmp_path / "Label.txt").write_text(f"images/x.PNG\t{line}\nimages/x.png\t{line}\n")
    pairs, problems = pairs_in(tmp_path)
    assert ([image.name for image, _ in pairs], problems) == (["x.PNG", "x.png"], [])
