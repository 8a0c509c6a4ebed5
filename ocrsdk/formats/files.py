"""Label files: their text, JSON or XML, and the lines to which an error points."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

from ocrsdk.errors import AnnotationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Where = int | tuple[str | int, ...]
"""A line from 1 on, or the keys and indices that lead to a value of a JSON file."""

_LONGEST_TO_COUNT = 50_000_000
"""Characters of a JSON file in which lines are still looked for: it takes a second for each ten million."""


class LabelFile:
    """A label file, read at most once.

    Args:
        path: The file.
    """

    __slots__ = ("_end", "_json", "_lines", "_start", "_text", "_whole", "_xml", "first_line", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first_line = 1
        """Of a part, where it begins."""
        self._text: str | None = None
        self._whole: str | None = None
        """Of a part, the text that it is cut out of: a million of them together are not much more than one."""
        self._start = self._end = 0
        self._json: Any = None
        self._xml: Element | None = None
        self._lines: dict[tuple[str | int, ...], int] | None = None

    @property
    def text(self) -> str:
        """Its content.

        Raises:
            AnnotationError: It cannot be read, or is not UTF-8.
        """
        if self._whole is not None:
            return self._whole[self._start : self._end].removesuffix("\r")
        if self._text is None:
            try:
                data = self.path.read_bytes()
            except OSError as error:
                raise AnnotationError(f"{self.path}: cannot be read ({error.strerror})") from error
            self._text = _decode(data, self.path)
        return self._text

    def lines(self) -> Iterator[tuple[int, str]]:
        """Number and text of each line that is not blank.

        Raises:
            AnnotationError: As ``text``.
        """
        if self._whole is not None:
            yield self.first_line, self.text
            return
        for part in self.parts():
            yield part.first_line, part.text

    def before(self, mark: str) -> str:
        """Its content up to a mark; all of it if there is none."""
        if self._whole is None:
            return self.text.partition(mark)[0]
        end = self._whole.find(mark, self._start, self._end)
        return self._whole[self._start : end if end >= 0 else self._end].removesuffix("\r")

    def parts(self) -> Iterator[LabelFile]:
        """Its lines that are not blank, each as if it were the whole file; errors name the same file and line.

        Raises:
            AnnotationError: As ``text``.
        """
        text, start, number = self.text, 0, self.first_line
        while start <= len(text):
            end = text.find("\n", start)
            end = len(text) if end < 0 else end
            if end > start and (" " < text[start] < "\x7f" or text[start:end].strip()):
                part = LabelFile(self.path)
                part._whole, part._start, part._end, part.first_line = text, start, end, number
                yield part
            start, number = end + 1, number + 1

    @property
    def is_blank(self) -> bool:
        """Whether it holds nothing but blanks; one that cannot be read does not."""
        try:
            return not self.text.strip()
        except AnnotationError:
            return False

    @property
    def json(self) -> Any:
        """Its content as JSON.

        Raises:
            AnnotationError: It is none, or a key stands twice in one object.
        """
        if self._json is None:
            try:
                self._json = json.loads(self.text, object_pairs_hook=_unique)
            except json.JSONDecodeError as error:
                raise AnnotationError(f"{self.path}:{error.lineno}: no JSON: {error.msg} (column {error.colno})") from error
            except _TwiceError as error:
                raise AnnotationError(
                    f"{self.path}:{_second(self.text, error.key)}: {error.key!r} stands twice in one object"
                ) from error
            except RecursionError as error:
                raise AnnotationError(f"{self.path}: its JSON is nested too deeply") from error
            except ValueError as error:  # a number of thousands of digits
                raise AnnotationError(f"{self.path}: no JSON that can be used: {str(error).splitlines()[0]}") from error
        return self._json

    @property
    def xml(self) -> Element:
        """Its content as XML.

        Raises:
            AnnotationError: It is none, or it declares entities, which may grow without bounds.
        """
        if self._xml is None:
            self._xml = _parse_xml(self)
        return self._xml

    def line(self, where: Where) -> int:
        """The line of a place; 0 if it is not known."""
        if isinstance(where, int):
            return where
        if "\n" not in self.text:
            return 1
        if self._lines is None:
            self._lines = _json_lines(self.text) if len(self.text) <= _LONGEST_TO_COUNT else {}
        while where and where not in self._lines:
            where = where[:-1]
        return self._lines.get(where, 0)

    def error(self, message: str, where: Where = 1) -> AnnotationError:
        """An error that names the file and the line."""
        line = self.line(where)
        place = f"{self.path}:{line}" if line else str(self.path)
        keys = "" if isinstance(where, int) or not where else f"{'/'.join(str(key) for key in where)}: "
        return AnnotationError(f"{place}: {keys}{message}")


_BOMS = ((b"\xff\xfe\0\0", "UTF-32"), (b"\0\0\xfe\xff", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


def _decode(data: bytes, path: Path) -> str:
    for mark, name in _BOMS:
        if data.startswith(mark):
            raise AnnotationError(f"{path}: not UTF-8 but {name}, by its first bytes; {_remedy(name)}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        name = _guess(data)
        raise AnnotationError(f"{path}:{line}: not UTF-8 (byte {error.start}); it looks like {name}: {_remedy(name)}") from error
    if "\0" in text:
        if text.count("\0") * 3 >= len(text):
            raise AnnotationError(f"{path}: not UTF-8; every other byte is zero, as in UTF-16: {_remedy('UTF-16')}")
        line = text.count("\n", 0, text.index("\0")) + 1
        raise AnnotationError(f"{path}:{line}: a zero byte in it; the file is damaged, or no text")
    return text


def _guess(data: bytes) -> str:
    if data.count(b"\0") * 4 >= len(data):
        return "UTF-16"
    for name, codec, script in (
        ("Shift-JIS", "shift_jis", "[\u3040-\u30ff\uff66-\uff9f]"), ("EUC-KR", "cp949", "[\uac00-\ud7a3]{2}"),
        ("GB18030", "gb18030", "[\u4e00-\u9fff]{2}"),
    ):  # fmt: skip
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            continue
        if re.search(script, text) and not re.search("[\x80-\x9f]", text):
            return name
    return "Latin-1"


def _remedy(name: str) -> str:
    return f"save the labels as UTF-8 (iconv -f {name.upper().replace('-JIS', '_JIS').replace('LATIN-1', 'LATIN1')} -t UTF-8)"


def cut(value: object, longest: int = 60) -> str:
    """The text of a value for a message, one line, shortened."""
    shown = repr(value) if isinstance(value, str) else _brief(value)
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."


def _brief(value: object) -> str:
    if isinstance(value, dict):
        return "an object with " + (", ".join(map(repr, list(value)[:4])) or "nothing")
    if isinstance(value, list):
        return "a list of " + str(len(value)) if len(value) > 8 or any(isinstance(v, list | dict) for v in value) else str(value)
    try:
        return "nothing" if value is None else str(value)
    except ValueError:  # an integer of thousands of digits
        return "a number beyond all bounds"


# ------------------------------------------------------------------------------------------------------------------- JSON


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is none, or holds a key twice; the message says what is wrong.
    """
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} (column {error.colno})") from error
    except _TwiceError as error:
        raise ValueError(f"{error.key!r} stands twice in one object") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


class _TwiceError(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen = set[str]()
        for key, _ in pairs:
            if key in seen:
                raise _TwiceError(key)
            seen.add(key)
    return made


_decoder = json.JSONDecoder(object_pairs_hook=_unique)


def _second(text: str, key: str) -> int:
    """The line of a key's last appearance: where it stands twice, not before its second one."""
    at = max(text.rfind(json.dumps(key, ensure_ascii=plain)) for plain in (True, False))
    return text.count("\n", 0, max(at, 0)) + 1


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:\n]|[^\s{}\[\],:"]+')


def _json_lines(text: str) -> dict[tuple[str | int, ...], int]:
    """The line on which each value of a JSON text begins, by the keys and indices that lead to it."""
    found: dict[tuple[str | int, ...], int] = {}
    path: list[str | int] = []
    is_object: list[bool] = []
    line, key, expects_key = 1, "", False
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == "\n":
            line += 1
        elif token in "}]":
            if is_object:
                is_object.pop()
                path.pop()
            expects_key = False
        elif token == ",":
            expects_key = bool(is_object) and is_object[-1]
            if is_object and not is_object[-1]:
                path[-1] = int(path[-1]) + 1
        elif token == ":":
            expects_key = False
            if path:
                path[-1] = key
        elif expects_key:
            key = json.loads(token)
        else:
            found[tuple(path)] = line
            if token in "{[":
                is_object.append(token == "{")
                path.append("" if token == "{" else 0)
                expects_key = token == "{"
    return found


# -------------------------------------------------------------------------------------------------------------------- XML


class Element:
    """One element of an XML file; names are without their namespace.

    Args:
        name: Of the element.
        attributes: Its attributes.
        line: Where it begins.
    """

    __slots__ = ("attributes", "children", "line", "name", "text")

    def __init__(self, name: str, attributes: dict[str, str], line: int) -> None:
        self.name, self.attributes, self.line = name, attributes, line
        self.children: list[Element] = []
        self.text = ""

    def all(self, *names: str) -> list[Element]:
        """The children of these names."""
        return [child for child in self.children if child.name in names]

    def first(self, name: str) -> Element | None:
        """The first child of a name."""
        return next((child for child in self.children if child.name == name), None)

    def below(self, *names: str) -> list[Element]:
        """All elements of these names, at any depth, in their order."""
        found, left = [], list(reversed(self.children))
        while left:
            element = left.pop()
            if element.name in names:
                found.append(element)
            left += reversed(element.children)
        return found


_DEEPEST = 100


def _parse_xml(file: LabelFile) -> Element:
    data = re.sub(r"^\s*<\?xml[^>]*\?>", lambda m: "\n" * m[0].count("\n"), file.text)  # its encoding is settled already
    parser = expat.ParserCreate(namespace_separator=" ")
    top = Element("", {}, 0)
    stack = [top]

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(stack) > _DEEPEST:
            raise file.error("its XML is nested too deeply", parser.CurrentLineNumber)
        plain = {key.rpartition(" ")[2]: value for key, value in attributes.items()}
        element = Element(name.rpartition(" ")[2], plain, parser.CurrentLineNumber)
        stack[-1].children.append(element)
        stack.append(element)

    def end(_: str) -> None:
        stack.pop()

    def characters(text: str) -> None:
        stack[-1].text += text

    def entity(*_: object) -> None:
        raise file.error("it declares entities, which a label file has no use for", parser.CurrentLineNumber)

    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, characters
    parser.EntityDeclHandler = entity
    try:
        parser.Parse(data.encode("utf-8"), True)
    except expat.ExpatError as error:
        raise AnnotationError(f"{file.path}:{error.lineno}: no XML: {expat.ErrorString(error.code)}") from error
    except UnicodeEncodeError as error:
        raise AnnotationError(f"{file.path}: no XML: {error.reason}") from error
    return top.children[0]
