"""Label Studio's JSON export: tasks with results in percent of the page."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from ocrsdk.formats.base import IGNORE_MARK, Holds, LabelledPage, Parsed, is_ignore_mark, need
from ocrsdk.formats.files import cut
from ocrsdk.formats.json_sets import JsonSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocrsdk.formats.base import PageToWrite
    from ocrsdk.formats.files import LabelFile
    from ocrsdk.types import TextInstance

IGNORED = frozenset({"###", "ignore", "ignored", "illegible", "dontcare", "don't care", "dont_care", "dont-care"})
"""Labels, in lower case, that mean don't-care."""
_SHAPES = ("rectangle", "rectanglelabels", "polygon", "polygonlabels")


class LabelStudio(JsonSet):
    """The full JSON export of a project whose regions are rectangles and polygons, with a text area for each.

    Coordinates are percent of ``original_width`` and ``original_height``; rectangles turn clockwise about their top-left corner by
    ``rotation`` degrees. A region labelled ``ignore`` or the like, or with the text ``###``, is don't-care.
    """

    name = "label-studio"
    summary = "Label Studio's JSON export: rectangles and polygons in percent"
    holds = Holds("polygon")
    file_name = "label-studio.json"

    def recognises(self, file: LabelFile) -> bool:
        """A list of tasks."""
        data = file.json
        return (
            isinstance(data, list)
            and bool(data)
            and all(isinstance(t, dict) and "data" in t for t in data[:5])
            and any("annotations" in task for task in data[:5])
        )

    def read(self, file: LabelFile) -> Iterator[LabelledPage]:
        """A page for each task; cancelled annotations do not count."""
        if not isinstance(file.json, list):
            raise file.error(
                f"{cut(file.json)} where a list of tasks was expected; export the project as JSON, not as JSON-MIN", ()
            )
        for index, task in enumerate(file.json):
            given = need(task, "annotations", list, file, (index,))
            kept = [(number, a) for number, a in enumerate(given) if not (isinstance(a, dict) and a.get("was_cancelled") is True)]
            page = LabelledPage(file, _image(task, file, index), (index,))
            if not kept:
                page.fault("syntax", "not labelled yet: a task without an annotation; label or remove it", (index,))
                yield page
                continue
            if len(kept) > 1:
                page.fault("syntax", f"{len(kept)} annotations of one task; keep one", (index, "annotations"))
            number, annotation = kept[0]
            where = (index, "annotations", number, "result")
            self._read_result(page, need(annotation, "result", list, file, where[:-1]), where)
            yield page

    def _read_result(self, page: LabelledPage, results: list[Any], where: tuple[str | int, ...]) -> None:
        texts: dict[object, object] = {}
        labels: dict[object, set[str]] = {}
        for item in results:
            value = item.get("value") if isinstance(item, dict) else None
            if not isinstance(value, dict):
                continue
            region = item.get("id")
            region = region if isinstance(region, str | int) else None
            if isinstance(value.get("text"), list | str):
                text = value["text"]
                texts[region] = " ".join(map(str, text)) if isinstance(text, list) else text
            for key in ("labels", "rectanglelabels", "polygonlabels", "choices"):
                if isinstance(value.get(key), list):
                    labels.setdefault(region, set()).update(str(label).lower() for label in value[key])
        shapes = {}
        for number, item in enumerate(results):
            kind = item.get("type") if isinstance(item, dict) else None
            if not isinstance(item, dict) or kind is None:
                page.fault("syntax", f"{cut(item)} is no result with a 'type'", (*where, number))
            elif kind in _SHAPES:
                shapes[number] = item
            elif kind in ("brush", "brushlabels", "ellipse", "ellipselabels", "keypoint", "keypointlabels"):
                page.fault("syntax", f"a region of the type {kind!r}; text is a rectangle or a polygon", (*where, number))

        def parse(item: Any) -> Parsed:
            region = item.get("id")
            text = texts.get(region, "")
            size = item["original_height"], item["original_width"]
            if not all(type(side) in (int, float) and 0 < side <= 1e6 for side in size):
                raise ValueError(f"original_width and original_height are {cut(size[1])} and {cut(size[0])}")
            page.size = int(size[0]), int(size[1])
            return _corners(item["value"], *size), text, bool(labels.get(region, set()) & IGNORED) or is_ignore_mark(text)

        page.add_all(shapes, parse, where)

    def made(self, pages: Sequence[PageToWrite]) -> object:
        """Polygons with labels ``text`` and ``ignore``; images are named relative to the folder."""
        return [
            {"id": number, "data": {"image": page.image}, "annotations": [{"id": number, "result": _results(page)}]}
            for number, page in enumerate(pages, 1)
        ]

    def unwritable(self, instance: TextInstance) -> str:
        """``###`` is don't-care."""
        return "texts that mean don't-care" if is_ignore_mark(instance.text) else ""


def _image(task: Any, file: LabelFile, index: int) -> str:
    """The path in a task's data, out of the address that Label Studio makes of it."""
    data = need(task, "data", dict, file, (index,))
    address = next((data[key] for key in ("image", "ocr", "img", "url") if isinstance(data.get(key), str)), None)
    if address is None:
        texts = [value for value in data.values() if isinstance(value, str)]
        if len(texts) != 1:
            raise file.error("no 'image' or 'ocr' in its data", (index, "data"))
        address = texts[0]
    try:
        parts = urlsplit(address)
        local = parse_qs(parts.query).get("d")
    except ValueError as error:
        raise file.error(f"{cut(address)} is no address of an image", (index, "data")) from error
    path = local[0] if local else unquote(parts.path) if parts.scheme or "/data/" in address else address
    if not path:
        raise file.error(f"{cut(address)} is no address of an image", (index, "data"))
    return _UPLOADED.sub("", path)


_UPLOADED = re.compile(r"(?<=/)[0-9a-f]{8}-(?=[^/]+$)")
"""What Label Studio puts before the name of an uploaded file."""


def _corners(value: Any, height: float, width: float) -> list[Any]:
    across, down = width / 100, height / 100
    if "points" in value:
        return [[_times(x, across), _times(y, down)] for x, y in value["points"]]
    x, y, w, h = (_times(value[key], by) for key, by in (("x", across), ("y", down), ("width", across), ("height", down)))
    turn = value.get("rotation", 0)
    if type(turn) not in (int, float) or not math.isfinite(turn):
        raise ValueError(f"rotation {cut(turn)} is not a number")
    if not turn:
        return [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    return [[x + dx * c - dy * s, y + dx * s + dy * c] for dx, dy in ((0, 0), (w, 0), (w, h), (0, h))]


def _times(value: Any, by: float) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"coordinate {cut(value)} is not a number")
    try:
        return float(value * by)
    except OverflowError:
        raise ValueError(f"coordinate {cut(value)} is beyond any page") from None


def _results(page: PageToWrite) -> list[dict[str, object]]:
    height, width = page.size
    results: list[dict[str, object]] = []
    for number, instance in enumerate(page.instances, 1):
        points = [[_percent(x, width), _percent(y, height)] for x, y in instance.polygon.astype(float).tolist()]
        common = {"id": str(number), "original_width": width, "original_height": height, "to_name": "image"}
        text = IGNORE_MARK if instance.ignore else instance.text
        label = "ignore" if instance.ignore else "text"
        results += [
            {**common, "from_name": "label", "type": "polygonlabels", "value": {"points": points, "polygonlabels": [label]}},
            {**common, "from_name": "transcription", "type": "textarea", "value": {"points": points, "text": [text]}},
        ]
    return results


def _percent(value: float, side: int) -> float:
    """Percent that become the same float32 again: a double has twenty-nine bits to spare."""
    return value / side * 100
