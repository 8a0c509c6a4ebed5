"""One JSON file for a whole set: docTR, MMOCR, and the dictionary of words."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from ocrsdk.errors import AnnotationError
from ocrsdk.formats.base import (
    AnnotationFormat,
    Holds,
    LabelledPage,
    Parsed,
    box_outline,
    is_ignore_mark,
    need,
    plain_bounds,
    plain_points,
    size_of,
    write_text,
)
from ocrsdk.formats.files import cut

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ocrsdk.formats.base import PageToWrite
    from ocrsdk.formats.files import LabelFile
    from ocrsdk.types import TextInstance


class JsonSet(AnnotationFormat):
    """Base of formats with one JSON file."""

    per_image = False
    endings: ClassVar[tuple[str, ...]] = (".json",)
    file_name = "labels.json"

    def write(self, pages: Sequence[PageToWrite], folder: Path) -> list[Path]:
        """One file."""
        text = json.dumps(self.made(pages), ensure_ascii=False, indent=1, allow_nan=False)
        return [write_text(folder / self.file_name, text + "\n")]

    @abstractmethod
    def made(self, pages: Sequence[PageToWrite]) -> object:
        """The content of the file."""


def flat(instance: TextInstance) -> list[int | float]:
    """Coordinates in one list."""
    return [value for point in plain_points(instance.polygon) for value in point]


class DocTR(JsonSet):
    """docTR's ``labels.json``: ``{image: {"img_dimensions": [h, w], "img_hash": .., "polygons": [..]}}``.

    Neither text nor don't-care; classes of polygons are not kept. Images without boxes may be missing.
    """

    name = "doctr"
    summary = "docTR's labels.json: outlines without text or don't-care"
    holds = Holds("quad", text=False, ignore=False)

    def recognises(self, file: LabelFile) -> bool:
        """Its first entry has ``polygons`` of its own."""
        data = file.json
        return (
            isinstance(data, dict) and all(isinstance(v, dict) and "polygons" in v for v in list(data.values())[:5]) and bool(data)
        )

    def read(self, file: LabelFile) -> Iterator[LabelledPage]:
        """A page for each name."""
        if not isinstance(file.json, dict):
            raise file.error(f"{cut(file.json)} where an object of images was expected", ())
        for image, entry in file.json.items():
            stated = entry.get("img_dimensions") if isinstance(entry, dict) else None
            size = (
                size_of(dict(zip(("height", "width"), stated, strict=True)))
                if isinstance(stated, list) and len(stated) == 2
                else None
            )
            page = LabelledPage(file, image, (image,), size)
            polygons = entry.get("polygons") if isinstance(entry, dict) else None
            groups = polygons if isinstance(polygons, dict) else {"": polygons}
            for group, outlines in groups.items():
                where = (image, "polygons", group) if group else (image, "polygons")
                page.add_all(outlines, lambda points: (points, "", False), where)
            yield page

    def made(self, pages: Sequence[PageToWrite]) -> object:
        """With the hashes that docTR checks."""
        made = {}
        for page in pages:
            try:
                digest = hashlib.sha256(page.path.read_bytes()).hexdigest()
            except OSError as error:
                raise AnnotationError(f"{page.path}: cannot be read ({error.strerror})") from error
            polygons = [plain_points(instance.polygon) for instance in page.instances]
            made[page.name] = {"img_dimensions": list(page.size), "img_hash": digest, "polygons": polygons}
        return made


class MMOCR(JsonSet):
    """MMOCR 1.x: ``{"metainfo": .., "data_list": [{"img_path", "height", "width", "instances": [..]}]}``.

    Files of 0.x are COCO files, with ``iscrowd`` for don't-care.
    """

    name = "mmocr"
    summary = "MMOCR 1.x textdet json (that of 0.x is coco)"
    holds = Holds("polygon", ignored_text=True)
    file_name = "textdet.json"

    def recognises(self, file: LabelFile) -> bool:
        """A ``data_list``."""
        return isinstance(file.json, dict) and isinstance(file.json.get("data_list"), list)

    def read(self, file: LabelFile) -> Iterator[LabelledPage]:
        """A page for each entry of the list."""
        for index, entry in enumerate(need(file.json, "data_list", list, file)):
            where = ("data_list", index)
            page = LabelledPage(file, need(entry, "img_path", str, file, where), where, size_of(entry))
            page.add_all(need(entry, "instances", list, file, where), _mmocr_region, (*where, "instances"))
            yield page

    def made(self, pages: Sequence[PageToWrite]) -> object:
        """One category."""
        category = [{"id": 0, "name": "text"}]
        metainfo = {"dataset_type": "TextDetDataset", "task_name": "textdet", "category": category}
        data_list = []
        for page in pages:
            instances = [
                {"polygon": flat(i), "bbox": plain_bounds(i.polygon), "bbox_label": 0, "ignore": i.ignore, "text": i.text}
                for i in page.instances
            ]
            entry = {"img_path": page.image, "height": page.size[0], "width": page.size[1], "instances": instances}
            data_list.append(entry)
        return {"metainfo": metainfo, "data_list": data_list}


def _mmocr_region(item: Any) -> Parsed:
    points = item["polygon"] if "polygon" in item else box_outline(*four(item["bbox"]))
    return points, item.get("text", ""), flag(item, "ignore")


def four(box: Any) -> Any:
    """A box, if it is a list of four."""
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError(f"box {cut(box)} is no list of four numbers")
    return box


def flag(item: Any, key: str) -> bool:
    """A flag that may be missing; True, False, 1 and 0 are some."""
    value = item.get(key, False)
    if type(value) not in (bool, int, type(None)):
        raise TypeError
    return bool(value)


class Words(JsonSet):
    """UFO: ``{"images": {name: {"img_h", "img_w", "words": {id: {"points", "transcription", "illegibility"}}}}}``.

    A file reduced to points reads as well. Words without points, for text that was not outlined, are no regions.
    """

    name = "ufo"
    summary = "UFO json: images, words, points"
    holds = Holds("polygon", ignored_text=True)
    file_name = "ufo.json"

    def recognises(self, file: LabelFile) -> bool:
        """Images by name, with words."""
        images = file.json.get("images") if isinstance(file.json, dict) else None
        return isinstance(images, dict) and all(isinstance(v, dict) and "words" in v for v in list(images.values())[:5])

    def read(self, file: LabelFile) -> Iterator[LabelledPage]:
        """A page for each name; one without ``words`` has no text."""
        for image, entry in need(file.json, "images", dict, file).items():
            if not isinstance(entry, dict):
                raise file.error(f"{cut(entry)} where an object with 'words' was expected", ("images", image))
            page = LabelledPage(file, image, ("images", image), size_of(entry, "img_h", "img_w"))
            page.add_all(entry.get("words", {}), _word, ("images", image, "words"))
            yield page

    def made(self, pages: Sequence[PageToWrite]) -> object:
        """Words are numbered from 0001."""
        images = {}
        for page in pages:
            words = {
                f"{number:04}": {"transcription": i.text, "points": plain_points(i.polygon), "illegibility": i.ignore}
                for number, i in enumerate(page.instances, 1)
            }
            images[page.name] = {"img_h": page.size[0], "img_w": page.size[1], "words": words}
        return {"images": images}

    def unwritable(self, instance: TextInstance) -> str:
        """``###`` is don't-care."""
        return "texts that mean don't-care" if is_ignore_mark(instance.text) else ""


def _word(item: Any) -> Parsed | None:
    if item["points"] == []:
        return None
    text = item.get("transcription", "")
    return item["points"], text, flag(item, "illegibility") or is_ignore_mark(text)
