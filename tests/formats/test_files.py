"""Files in other encodings, and places in JSON and XML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsdk.errors import AnnotationError
from ocrsdk.formats.files import LabelFile, _json_lines


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("0,0,9,0,9,9,0,9,A\n".encode("utf-16"), "UTF-16"),
        ("0,0,9,0,9,9,0,9,A\n".encode("utf-16-le"), "UTF-16"),
        ("0,0,9,0,9,9,0,9,日本\n".encode("utf-16-be"), "UTF-16"),
        ("0,0,9,0,9,9,0,9,A\n".encode("utf-32"), "UTF-32"),
        ("0,0,9,0,9,9,0,9,領収書ありがとう\n".encode("shift_jis"), "Shift-JIS"),
        ("0,0,9,0,9,9,0,9,café\n".encode("latin-1"), "Latin-1"),
        ("0,0,9,0,9,9,0,9,영수증 합계\n".encode("cp949"), "EUC-KR"),
    ],
)
def test_an_encoding_is_named(tmp_path: Path, data: bytes, name: str):
    path = tmp_path / "gt.txt"
    path.write_bytes(data)
    with pytest.raises(AnnotationError, match=rf"gt\.txt:?1?: not UTF-8.*{name}.*save the labels as UTF-8"):
        _ = LabelFile(path).text


def test_what_is_no_file(tmp_path: Path):
    (tmp_path / "dir.txt").mkdir()
    (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
    for name in ("dir.txt", "loop.txt", "none.txt"):
        with pytest.raises(AnnotationError, match=rf"{name}: cannot be read"):
            _ = LabelFile(tmp_path / name).text


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"a": 1,\n"a": 2}', r":2: 'a' stands twice in one object"),
        ('{"a":\n}', r":2: no JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[" + "9" * 10_000 + "]", "no JSON that can be used"),
    ],
)
def test_json_that_cannot_be_used(tmp_path: Path, text: str, error: str):
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=rf"labels\.json{error}" if error.startswith(":") else error):
        _ = LabelFile(path).json


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("<a>\n<b></a>", ":2: no XML"),
        ("<!DOCTYPE a [\n<!ENTITY x 'y'>\n]><a>&x;</a>", ":2: it declares entities"),
        ("<a>" * 5000, "nested too deeply"),
        ("", "no XML"),
    ],
)
def test_xml_that_cannot_be_used(tmp_path: Path, text: str, error: str):
    path = tmp_path / "page.xml"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=error):
        _ = LabelFile(path).xml


def test_xml_says_latin_1_and_is_utf8(tmp_path: Path):
    path = tmp_path / "page.xml"
    path.write_text('<?xml version="1.0" encoding="ISO-8859-1"?>\n<a t="é"/>', encoding="utf-8")
    assert LabelFile(path).xml.attributes == {"t": "é"}
    assert LabelFile(path).xml.line == 2


values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_lines_of_json_values(value: object):
    """The oracle: with an indent, json writes one value a line, in the order of a walk."""
    text = json.dumps(value, indent=1)
    lines = _json_lines(text)

    def walk(inner: object, path: tuple[str | int, ...]) -> None:
        line = text.split("\n")[lines[path] - 1]
        if isinstance(inner, dict | list):
            assert ("{" if isinstance(inner, dict) else "[") in line
            for key, below in inner.items() if isinstance(inner, dict) else enumerate(inner):
                walk(below, (*path, key))
        else:
            assert json.dumps(inner) in line

    walk(value, ())
