"""What an annotation format is, and the pages that its reader makes.

A reader goes on after a fault in a region and keeps it with the page, so that all of a data set can be told at once. What stops it
is a file that cannot be understood as a whole.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np

from ocrsdk.errors import AnnotationError
from ocrsdk.formats.files import cut
from ocrsdk.geometry import are_valid, pack
from ocrsdk.plugins.base import Plugin
from ocrsdk.types import TextInstance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ocrsdk.formats.files import LabelFile, Where

IGNORE_MARK = "###"
"""The transcription of a don't-care region, in most formats."""
FARTHEST = 1e6
"""Pixels from the origin. No image is that large, and float32 still tells hundredths apart below a tenth of it."""

FaultKind = Literal["syntax", "coordinates", "shape", "unit", "text"]
Parsed = tuple[Any, object, bool]
"""Points, text and whether it is don't-care, of one region, not yet checked."""


class Fault(NamedTuple):
    """Something wrong in a label file."""

    kind: FaultKind
    where: Where
    message: str


@dataclass
class LabelledPage:
    """The regions of one image as a label file has them, and what is wrong with them."""

    file: LabelFile
    image: str = ""
    """Name or relative path of the image as the file has it; empty where the name of the label file tells it."""
    where: Where = 1
    size: tuple[int, int] | None = None
    """(height, width) in pixels, where the file tells it."""
    instances: list[TextInstance] = field(default_factory=list)
    places: list[Where] = field(default_factory=list)
    """Where each of ``instances`` stands."""
    faults: list[Fault] = field(default_factory=list)

    def add(self, points: object, text: object = "", ignore: bool = False, where: Where = 1) -> None:
        """A region; one that is malformed becomes a fault.

        Args:
            points: Corners in pixels: pairs, or one flat list.
            text: A string, or None for none.
            ignore: Whether it is don't-care.
            where: Its line, or the keys that lead to it.
        """
        if text is not None and not isinstance(text, str):
            self.fault("text", f"the text {cut(text)} is no string", where)
            return
        try:
            polygon = outline(points)
        except ValueError as error:
            self.fault("coordinates", str(error), where)
            return
        self.instances.append(TextInstance(polygon, text or "", bool(ignore)))
        self.places.append(where)

    def add_all(self, items: object, parse: Callable[[Any], Parsed | None], where: tuple[str | int, ...]) -> None:
        """A region for each of ``items``, a list or a dictionary; ``parse`` may return None for what is none."""
        if not isinstance(items, list | dict):
            self.fault("syntax", f"{cut(items)} where a list of regions was expected", where)
            return
        for key, item in items.items() if isinstance(items, dict) else enumerate(items):
            place = (*where, key)
            try:
                found = parse(item)
            except KeyError as error:
                self.fault("syntax", f"no {error.args[0]!r} in {cut(item)}", place)
            except ValueError as error:
                self.fault("coordinates", str(error), place)
            except (TypeError, AttributeError, IndexError):
                self.fault("syntax", f"{cut(item)} is no region of this format", place)
            else:
                if found is not None:
                    self.add(*found, where=place)

    def fault(self, kind: FaultKind, message: str, where: Where = 1) -> None:
        """Keep what is wrong."""
        self.faults.append(Fault(kind, where, message))

    def check_shapes(self) -> None:
        """Take out regions that cross themselves, touch themselves or have no area: they become faults."""
        if not self.instances:
            return
        valid = [_is_level(instance.polygon.tolist()) for instance in self.instances]
        if doubtful := [at for at, is_level in enumerate(valid) if not is_level]:
            for at, fine in zip(doubtful, are_valid(*pack([self.instances[at].polygon for at in doubtful])).tolist(), strict=True):
                valid[at] = fine
        if False not in valid:
            return
        kept = []
        for instance, where, fine in zip(self.instances, self.places, valid, strict=True):
            if fine:
                kept.append((instance, where))
            else:
                corners = ", ".join(f"{x:g} {y:g}" for x, y in instance.polygon)
                self.fault("shape", f"the polygon crosses itself, touches itself or has no area: {cut(corners)}", where)
        self.instances, self.places = [i for i, _ in kept], [w for _, w in kept]

    def error(self, fault: Fault) -> AnnotationError:
        """The error for one of ``faults``."""
        return self.file.error(fault.message, fault.where)


def outline(points: object) -> NDArray[np.float32]:
    """(N, 2) float32 of pairs or of one flat list of numbers, N >= 3.

    Raises:
        ValueError: It is none; the message says what was found.
    """
    if isinstance(points, np.ndarray):
        points = points.tolist()
    if not isinstance(points, list | tuple):
        raise ValueError(f"{cut(points)} where corners were expected")
    flat: Sequence[Any] = points
    if points and isinstance(points[0], list | tuple):
        if not (set(map(type, points)) <= {list, tuple} and set(map(len, points)) == {2}):
            bad = next(point for point in points if not (isinstance(point, list | tuple) and len(point) == 2))
            raise ValueError(f"corner {cut(bad)} is no pair of numbers")
        flat = list(chain.from_iterable(points))
    if not set(map(type, flat)) <= {int, float}:
        bad = next(value for value in flat if type(value) not in (int, float))
        raise ValueError(f"coordinate {cut(bad)} is not a number")
    if not (flat and min(flat) >= -FARTHEST and max(flat) <= FARTHEST and math.isfinite(sum(flat))):
        for value in flat:
            if -FARTHEST <= value <= FARTHEST:
                continue
            is_finite = isinstance(value, int) or math.isfinite(value)
            raise ValueError(f"coordinate {cut(value)} is " + ("beyond any page" if is_finite else "not finite"))
    if len(flat) % 2 or len(flat) < 6:
        raise ValueError(f"{len(flat)} coordinates, expected an even number from 6 on")
    return np.array(flat, dtype=np.float32).reshape(-1, 2)


def _is_level(corners: list[list[float]]) -> bool:
    """Whether they are those of a box with level sides, in order: nothing is wrong with it, and most text has one."""
    if len(corners) != 4:
        return False
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = corners
    return ay == by and cy == dy and bx == cx and ax == dx and ax != bx and by != cy


def box_outline(left: Any, top: Any, right: Any, bottom: Any) -> list[Any]:
    """The corners of a box with level sides, clockwise from the top-left one."""
    return [left, top, right, top, right, bottom, left, bottom]


def is_ignore_mark(text: object) -> bool:
    """Whether a text means don't-care: ``###``, also in quotes and between blanks."""
    return isinstance(text, str) and text.strip().strip("\"'").strip() == IGNORE_MARK


def number_text(value: float | np.floating[Any]) -> str:
    """The shortest text that reads back as the same float32."""
    return np.format_float_positional(np.float32(value), trim="-")


def plain_number(value: float) -> int | float:
    """The same for JSON: an int where it is one."""
    shortest = float(number_text(value))
    return int(shortest) if shortest.is_integer() else shortest


def plain_points(polygon: NDArray[np.floating[Any]]) -> list[list[int | float]]:
    """Pairs for JSON."""
    return [[plain_number(x), plain_number(y)] for x, y in polygon.tolist()]


def plain_bounds(polygon: NDArray[np.floating[Any]]) -> tuple[int | float, int | float, int | float, int | float]:
    """Left, top, right and bottom, for JSON."""
    (left, top), (right, bottom) = polygon.min(axis=0).tolist(), polygon.max(axis=0).tolist()
    return plain_number(left), plain_number(top), plain_number(right), plain_number(bottom)


@dataclass(frozen=True)
class Holds:
    """What a format can keep of a region; its writer is never given more."""

    corners: Literal["box", "quad", "polygon"] = "polygon"
    """Boxes with level sides, any four corners, or any number from three on."""
    text: bool = True
    ignore: bool = True
    ignored_text: bool = False
    """Whether a don't-care region keeps its text."""
    fractions: bool = True
    """Whether coordinates may be no whole numbers, and negative."""
    empty_pages: bool = True
    """Whether a page without text can be told from one that is not in the set."""


@dataclass(frozen=True)
class PageToWrite:
    """One page for a writer."""

    name: str
    """Of the image file, without folders."""
    image: str
    """Where the image lies, relative to the folder that is written, with ``/``."""
    path: Path
    """The image file."""
    size: tuple[int, int]
    """(height, width) of the upright image in pixels."""
    instances: Sequence[TextInstance]


class AnnotationFormat(Plugin):
    """Base of annotation formats: how label files are recognised, read and written.

    A format is either one label file an image (``per_image``), which is found by the image's name, or one for the whole set.

    Args:
        options: An ``Options`` of the class, or None for its defaults.
    """

    per_image: ClassVar[bool] = True
    endings: ClassVar[tuple[str, ...]] = (".txt",)
    """Of its label files, lower case."""
    holds: ClassVar[Holds] = Holds()
    specific: ClassVar[int] = 0
    """Where two formats recognise the same files, the larger one wins."""

    @abstractmethod
    def recognises(self, file: LabelFile) -> bool:
        """Whether a label file looks like one of this format, by its content and name. An error counts as no."""

    @abstractmethod
    def read(self, file: LabelFile) -> Iterator[LabelledPage]:
        """The pages of a label file, in its order; exactly one where ``per_image``.

        Raises:
            AnnotationError: The file cannot be understood as a whole.
        """

    @abstractmethod
    def write(self, pages: Sequence[PageToWrite], folder: Path) -> list[Path]:
        """Write label files into ``folder``, which exists; returns them. What ``holds`` excludes is not in ``pages``."""

    def parts(self, file: LabelFile) -> Iterator[tuple[str, LabelFile]] | None:
        """Name or path of each image, and the part of ``file`` that holds its one page: ``read`` is then given the parts.

        A format with one file for a whole set may have it, so that a million pages are neither read at once nor by one process.
        """
        return None

    def next_page(self, pages: Iterator[LabelledPage]) -> LabelledPage | None:
        """The next of the pages that ``read`` gives; None after the last."""
        return next(pages, None)

    def label_names(self, image: str) -> tuple[str, ...]:
        """The names that the label file of an image may have, where ``per_image``; ``image`` is a name with its ending."""
        stem = image.rpartition(".")[0] or image
        return tuple(f"{stem}{ending}" for ending in self.endings)

    def unwritable(self, instance: TextInstance) -> str:
        """Why the text of a region cannot be written in this format; empty if it can."""
        return ""

    def written_text(self, text: str) -> str:
        """What is left of a text that ``unwritable`` names."""
        return ""


def write_text(path: Path, text: str) -> Path:
    """Write a label file; returns its path.

    Raises:
        AnnotationError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    except (OSError, UnicodeEncodeError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", error)
        raise AnnotationError(f"{path}: cannot be written ({reason})") from error
    return path


def need(mapping: Mapping[str, Any] | object, key: str, kind: type | tuple[type, ...], file: LabelFile, where: Where = ()) -> Any:
    """``mapping[key]``, of a type that the format prescribes.

    Raises:
        AnnotationError: It is not there, or is something else.
    """
    if not isinstance(mapping, dict):
        raise file.error(f"{cut(mapping)} where an object with {key!r} was expected", where)
    if key not in mapping:
        raise file.error(f"no {key!r} in {cut(mapping)}", where)
    value = mapping[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise file.error(f"{key!r} is {cut(value)}", where)
    return value


def size_of(entry: Mapping[str, Any], height: str = "height", width: str = "width") -> tuple[int, int] | None:
    """(height, width) of two keys, if both hold whole numbers above 0."""
    sides = _whole_side(entry.get(height)), _whole_side(entry.get(width))
    return None if sides[0] is None or sides[1] is None else (sides[0], sides[1])


def _whole_side(value: object) -> int | None:
    """Pixels of a side, if it can be one."""
    if type(value) not in (int, float) or not 0 < value <= FARTHEST or value != int(value):  # type: ignore[operator,call-overload]
        return None
    return int(value)  # type: ignore[call-overload,no-any-return]
