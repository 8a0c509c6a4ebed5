"""Tables hold what lists of pages hold, in files or not, in this process or another."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ocrsdk.data import folder as folder_module
from ocrsdk.data.folder import data_fingerprint
from ocrsdk.data.table import JoinedPages, PageTable, TableBuilder
from ocrsdk.errors import DataError
from ocrsdk.types import Annotation, TextInstance

polygons = arrays(np.float32, st.tuples(st.integers(3, 9), st.just(2)), elements=st.floats(-1e6, 1e6, width=32))
instances = st.builds(TextInstance, polygons, st.text(max_size=12), st.booleans())
names = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=20)
paths = names.map(lambda name: Path("/data") / f"_{name}")
annotations = st.builds(Annotation, paths, st.lists(instances, max_size=4).map(tuple), st.integers(-1, 2**63 - 1))
pages = st.lists(annotations, max_size=6)


def told(some: list[Annotation]) -> list[object]:
    return [
        (a.image, a.state, a.digest, [(i.polygon.dtype, i.polygon.tolist(), i.text, i.ignore) for i in a.instances]) for a in some
    ]


@given(pages, pages)
def test_a_table_is_the_list_that_it_was_made_of(first: list[Annotation], second: list[Annotation]):
    one, other = PageTable.of(first), PageTable.of(second)
    assert told(list(one)) == told(first)
    both = TableBuilder()
    both.extend(one)
    both.extend(other)
    assert told(list(both.table())) == told(first + second)
    joined = JoinedPages([one, second])
    assert told(list(joined)) == told(first + second)
    assert told(joined[1:-1]) == told((first + second)[1:-1])
    if first:
        assert told([one[-1]]) == told(first[-1:])
    assert told(list(pickle.loads(pickle.dumps(one)))) == told(first)
    for annotation in list(one):
        assert Annotation(annotation.image, annotation.instances).digest == annotation.digest


def some() -> list[Annotation]:
    box = np.array([[0, 0], [9, 0], [9, 5], [0, 5]], np.float32)
    return [Annotation(Path(f"/d/{n}.png"), (TextInstance(box + n, "ab" * n, n % 2 == 0),) * n, n) for n in range(5)]


def test_files_are_mapped_in_another_process_and_cannot_be_written(tmp_path: Path):
    PageTable.of(some()).save(tmp_path)
    mapped = PageTable.mapped(tmp_path)
    assert told(list(mapped)) == told(some())
    sent = pickle.dumps(mapped)
    assert len(sent) < 500  # the folder, and no page
    code = (
        "import pickle, sys; t = pickle.loads(bytes.fromhex(sys.argv[1])); print(t[3].digest, t.arrays['points'].base is not None)"
    )
    result = subprocess.run([sys.executable, "-c", code, sent.hex()], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [some()[3].digest, "True"]
    with pytest.raises(ValueError, match="read-only"):
        mapped[3].instances[0].polygon[0] = 1
    with pytest.raises(IndexError):
        mapped[5]


@pytest.mark.parametrize("name", ["points", "texts", "region_ends", "states", "path_ends"])
def test_files_that_do_not_fit_are_refused(tmp_path: Path, name: str):
    PageTable.of(some()).save(tmp_path)
    values = np.load(tmp_path / f"{name}.npy")
    np.save(tmp_path / f"{name}.npy", values[:-1])
    with pytest.raises(ValueError, match="do not fit together"):
        PageTable.mapped(tmp_path)
    np.save(tmp_path / f"{name}.npy", values.astype(np.float16))
    with pytest.raises(ValueError, match="was expected"):
        PageTable.mapped(tmp_path)


def test_an_empty_table():
    assert list(PageTable.of([])) == list(JoinedPages([])) == []


def test_the_fingerprint_is_that_of_the_pages_however_they_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Not of their order and folder; of every label, and of the name and size of every image."""

    def at(folder: str) -> list[Annotation]:
        (tmp_path / folder).mkdir(exist_ok=True)
        for page in some():
            (tmp_path / folder / page.image.name).write_text("x" * page.state)
        return [Annotation(tmp_path / folder / page.image.name, page.instances) for page in some()]

    pages = at("a")
    known = data_fingerprint(pages)
    monkeypatch.setattr(folder_module, "_ROWS", 2)
    for same in (pages[::-1], PageTable.of(pages), JoinedPages([PageTable.of(pages[:3]), pages[3:]]), at("b")):
        assert data_fingerprint(same) == known
    assert data_fingerprint(pages, []) != known
    assert data_fingerprint(pages[:-1]) != known
    assert data_fingerprint([*pages[:-1], Annotation(pages[-1].image, pages[0].instances)]) != known
    pages[0].image.write_text("longer")
    assert data_fingerprint(PageTable.of(pages)) != known
    pages[0].image.unlink()
    with pytest.raises(DataError, match=r"0\.png: was there a moment ago"):
        data_fingerprint(PageTable.of(pages))


def test_pages_that_were_replaced_are_not_taken_for_those_that_were_sent(tmp_path: Path):
    for name, pages in (("one", some()), ("other", some()[:2])):
        (tmp_path / name).mkdir()
        PageTable.of(pages).save(tmp_path / name)
    sent = pickle.dumps(PageTable.mapped(tmp_path / "one"))
    (tmp_path / "one").rename(tmp_path / "aside")
    (tmp_path / "other").rename(tmp_path / "one")
    with pytest.raises(ValueError, match="have been replaced"):
        pickle.loads(sent)
