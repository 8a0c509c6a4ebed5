"""What lies in a folder, and that no change in it goes unseen."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from ocrsdk.data import listing
from ocrsdk.data.listing import GONE, Folders, Listing, file_state, plain_name
from ocrsdk.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "note.txt", ".hidden.jpg"):
        (tmp_path / name).write_text(name)
    (tmp_path / "inner").mkdir()
    (tmp_path / "to_nothing.png").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe.png")
    return tmp_path


def test_what_is_listed(folder: Path):
    found = Listing(folder)
    assert found.files == ["a.PNG", "b.jpg", "note.txt", "to_nothing.png"]
    assert found.images == ["a.PNG", "b.jpg", "to_nothing.png"]
    assert found.folders == ["inner"]
    assert [found.states[at] == GONE for at in range(4)] == [False, False, False, True]
    assert found.states[1] == file_state(folder / "b.jpg")
    assert found.image("a.png") == 0
    assert found.image("note.txt") is None
    assert found.newest == max((folder / name).stat().st_ctime_ns for name in found.files[:3])


def rewrite(path: Path) -> None:
    """Other bytes, as many as before, and the old time of change."""
    status = path.stat()
    path.write_text(path.read_text()[::-1])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def exchange(one: Path, other: Path) -> None:
    aside = one.rename(one.with_name("aside"))
    other.rename(one)
    aside.rename(other)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a new file": lambda folder: (folder / "c.jpg").touch(),
    "a file less": lambda folder: (folder / "b.jpg").unlink(),
    "another name": lambda folder: (folder / "b.jpg").rename(folder / "c.jpg"),
    "names exchanged": lambda folder: exchange(folder / "a.PNG", folder / "b.jpg"),
    "other bytes": lambda folder: rewrite(folder / "b.jpg"),
    "a new folder": lambda folder: (folder / "more").mkdir(),
    "a link that leads somewhere": lambda folder: (folder / "nothing").touch(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen(folder: Path, change: str):
    looked = Folders()
    looked.list(folder)
    before = looked.digests()
    assert Folders().are_as(before)
    CHANGES[change](folder)
    assert not Folders().are_as(before)


def test_single_files_and_folders_that_were_not_there(folder: Path):
    looked = Folders()
    looked.note(folder / "note.txt")
    with pytest.raises(DataError):
        looked.list(folder / "labels")
    with pytest.raises(DataError):
        looked.list(folder / "labels")
    before = looked.digests()
    (folder / "c.jpg").touch()
    assert Folders().are_as(before)  # the folder itself was not looked at
    rewrite(folder / "note.txt")
    assert not Folders().are_as(before)
    again = Folders()
    again.note(folder / "note.txt")
    with pytest.raises(DataError):
        again.list(folder / "labels")
    before = again.digests()
    (folder / "labels").mkdir()
    assert not Folders().are_as(before)


def test_many_files_are_looked_at_by_several_processes(folder: Path, monkeypatch: pytest.MonkeyPatch):
    for number in range(50):
        (folder / f"{number}.png").write_text("x" * number)
    alone = Listing(folder)
    monkeypatch.setattr(listing, "_AT_ONCE", 7)
    monkeypatch.setattr(listing, "available_cpus", lambda: 3)
    together = Listing(folder)
    assert (together.files, together.states, together.newest) == (alone.files, alone.states, alone.newest)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("A.JPG", "A.jpg"), ("a.jpg.TXT", "a.jpg.txt"), ("a.JPEG.txt", "a.jpeg.txt"), ("A.B.TXT", "A.B.txt"), ("a.XYZ", "a.XYZ"),
        (".jpg", ".jpg"), ("plain", "plain"), (unicodedata.normalize("NFD", "é.PNG"), "\u00e9.png"),
    ],
)  # fmt: skip
def test_plain_names(name: str, plain: str):
    assert plain_name(name) == plain
