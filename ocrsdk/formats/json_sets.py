"""One JSON file for a whole set: docTR, MMOCR, COCO, COCO-Text, TextOCR, and the dictionary of words."""

from __future__ import annotations

import hashlib
import json
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
from ocrsdk.settings.options import Options

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

    def made(self, pages: Sequence[PageToWrite]) -> object:
        """The content of the file."""
        raise NotImplementedError


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
    points = item["polygon"] if "polygon" in item else box_outline(*_four(item["bbox"]))
    return points, item.get("text", ""), _flag(item, "ignore")


def _four(box: Any) -> Any:
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError(f"box {cut(box)} is no list of four numbers")
    return box


def _flag(item: Any, key: str) -> bool:
    value = item.get(key, False)
    if type(value) not in (bool, int, type(None)):
        raise TypeError
    return bool(value)


def _xywh(box: Any) -> list[Any]:
    left, top, width, height = _four(box)
    if not all(type(value) in (int, float) for value in box):
        raise ValueError(f"box {cut(box)} is no list of four numbers")
    return box_outline(left, top, left + width, top + height)


class Coco(JsonSet):
    """COCO detection files, also those of MMOCR 0.x: ``images``, ``annotations`` with ``segmentation`` or ``bbox``.

    ``iscrowd`` or ``ignore`` means don't-care. A region of several outlines becomes as many regions; where there is no outline, or
    a crowd's run lengths, the box counts.
    """

    name = "coco"
    summary = "COCO detection json: images, annotations with segmentation or bbox"
    holds = Holds("polygon", ignored_text=True)
    file_name = "instances.json"

    def recognises(self, file: LabelFile) -> bool:
        """Lists of images and of annotations."""
        data = file.json
        return isinstance(data, dict) and all(isinstance(data.get(key), list) for key in ("images", "annotations"))

    def read(self, file: LabelFile) -> Iterator[LabelledPage]:
        """A page for each image, in the order of ``images``."""
        pages: dict[Any, LabelledPage] = {}
        for index, entry in enumerate(need(file.json, "images", list, file)):
            where = ("images", index)
            number = need(entry, "id", (int, str), file, where)
            if number in pages:
                raise file.error(f"the id {cut(number)} is that of another image, too", where)
            pages[number] = LabelledPage(file, need(entry, "file_name", str, file, where), where, size_of(entry))
        of_image: dict[Any, list[tuple[int, Any]]] = {}
        for index, item in enumerate(need(file.json, "annotations", list, file)):
            number = need(item, "image_id", (int, str), file, ("annotations", index))
            if number not in pages:
                raise file.error(f"there is no image with the id {cut(number)}", ("annotations", index))
            of_image.setdefault(number, []).append((index, item))
        for number, page in pages.items():
            for index, item in of_image.get(number, ()):
                for part in _parts(item):
                    page.add_all({index: part}, _coco_region, ("annotations",))
            yield page

    def made(self, pages: Sequence[PageToWrite]) -> object:
        """With the text beside each region, and the key that COCO-Text and many tools use for it."""
        images, annotations = list[object](), list[object]()
        for number, page in enumerate(pages, 1):
            images.append({"id": number, "file_name": page.image, "height": page.size[0], "width": page.size[1]})
            for instance in page.instances:
                left, top, right, bottom = plain_bounds(instance.polygon)
                annotations.append({
                    "id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": int(instance.ignore),
                    "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top),
                    "segmentation": [flat(instance)], "text": instance.text,
                })  # fmt: skip
        return {"images": images, "categories": [{"id": 1, "name": "text"}], "annotations": annotations}

    def unwritable(self, instance: TextInstance) -> str:
        """``###`` is don't-care."""
        return "texts that mean don't-care" if is_ignore_mark(instance.text) else ""


def _parts(item: Any) -> list[Any]:
    outlines = item.get("segmentation") if isinstance(item, dict) else None
    if isinstance(outlines, list) and len(outlines) > 1 and all(isinstance(outline, list) for outline in outlines):
        return [{**item, "segmentation": [outline]} for outline in outlines]
    return [item]


def _coco_region(item: Any) -> Parsed:
    outlines, crowd = item.get("segmentation"), _flag(item, "iscrowd")
    if isinstance(outlines, dict) and not crowd:
        raise ValueError("run lengths, which are no outline; export polygons")
    if isinstance(outlines, list) and outlines:
        points = outlines[0] if isinstance(outlines[0], list) else outlines
    else:
        points = _xywh(item["bbox"])
    texts = (item[key] for key in ("text", "utf8_string", "transcription", "caption") if key in item)
    attributes = item.get("attributes")
    text = next(texts, attributes.get("text", attributes.get("transcription", "")) if isinstance(attributes, dict) else "")
    return points, text, crowd or _flag(item, "ignore") or is_ignore_mark(text)


class _KeyedSet(JsonSet):
    """COCO-Text and TextOCR: dictionaries ``imgs`` and ``anns`` by id."""

    points_key = ""

    class Options(Options):
        """Options of a format with splits in one file."""

        set: str = ""
        """Only images whose ``set`` is this: ``train``, ``val``; all of them by default."""

    def recognises(self, file: LabelFile) -> bool:
        """``imgs``, and ``anns`` whose first entry has this format's outlines."""
        data = file.json
        if not (isinstance(data, dict) and isinstance(data.get("imgs"), dict) and isinstance(data.get("anns"), dict)):
            return False
        return all(isinstance(v, dict) and self.points_key in v for v in list(data["anns"].values())[:5])

    def read(self, file: LabelFile) -> Iterator[LabelledPage]:
        """A page for each image, in the order of ``imgs``."""
        pages: dict[str, LabelledPage] = {}
        left_out = set[str]()
        for number, entry in need(file.json, "imgs", dict, file).items():
            where = ("imgs", number)
            name = need(entry, "file_name", str, file, where)
            if self.options.set and entry.get("set") != self.options.set:
                left_out.add(number)
            else:
                pages[number] = LabelledPage(file, name, where, size_of(entry))
        if left_out and not pages:
            found = sorted({str(entry.get("set")) for entry in file.json["imgs"].values()})
            raise file.error(f"no image of the set {self.options.set!r}; there are: {', '.join(found)}", ("imgs",))
        of_image: dict[str, dict[str, Any]] = {}
        for key, item in need(file.json, "anns", dict, file).items():
            number = str(need(item, "image_id", (int, str), file, ("anns", key)))
            if number not in pages and number not in left_out:
                raise file.error(f"there is no image with the id {cut(number)}", ("anns", key))
            of_image.setdefault(number, {})[key] = item
        for number, page in pages.items():
            page.add_all(of_image.get(number, {}), self.region, ("anns",))
            yield page

    def region(self, item: Any) -> Parsed:
        """One entry of ``anns``."""
        raise NotImplementedError

    def entry(self, instance: TextInstance) -> dict[str, object]:
        """What is written of a region, besides ids, box and area."""
        raise NotImplementedError

    def ids(self, image: int, number: int) -> tuple[int | str, int | str]:
        """The ids of an image and of a region."""
        raise NotImplementedError

    def made(self, pages: Sequence[PageToWrite]) -> object:
        """Every image is of the set that the options name, or of train."""
        imgs, anns, of_image, count = {}, {}, {}, 0
        for index, page in enumerate(pages, 1):
            keys = []
            image = self.ids(index, 0)[0]
            for number, instance in enumerate(page.instances, 1):
                count += 1
                key = self.ids(index, number if isinstance(image, str) else count)[1]
                left, top, right, bottom = plain_bounds(instance.polygon)
                box, area = [left, top, right - left, bottom - top], (right - left) * (bottom - top)
                anns[str(key)] = {"id": key, "image_id": image, "bbox": box, "area": area, **self.entry(instance)}
                keys.append(key)
            imgs[str(image)] = {
                "id": image, "file_name": page.image, "height": page.size[0], "width": page.size[1],
                "set": self.options.set or "train",
            }  # fmt: skip
            of_image[str(image)] = keys
        return {"info": {}, "imgs": imgs, "anns": anns, "imgToAnns": of_image}


class CocoText(_KeyedSet):
    """COCO-Text 2.0 (Veit et al. 2016): ``mask``, or ``bbox`` where it is empty; illegible text is don't-care."""

    name = "cocotext"
    summary = "COCO-Text 2.0 json: imgs, anns with mask; illegible is don't-care"
    holds = Holds("polygon")
    file_name = "cocotext.json"
    points_key = "mask"

    def region(self, item: Any) -> Parsed:
        """Its legibility tells whether it counts."""
        legibility = item.get("legibility", "legible")
        if legibility not in ("legible", "illegible"):
            raise ValueError(f"legibility {cut(legibility)} is neither 'legible' nor 'illegible'")
        return item["mask"] or _xywh(item["bbox"]), item.get("utf8_string", ""), legibility == "illegible"

    def entry(self, instance: TextInstance) -> dict[str, object]:
        """Class and language are not known."""
        legibility, text = ("illegible", "") if instance.ignore else ("legible", instance.text)
        return {"mask": flat(instance), "legibility": legibility, "utf8_string": text, "class": "others", "language": "na"}

    def ids(self, image: int, number: int) -> tuple[int, int]:
        """Whole numbers."""
        return image, number


class TextOCR(_KeyedSet):
    """TextOCR (Singh et al. 2021): ``points``; a text of ``.`` is don't-care."""

    name = "textocr"
    summary = "TextOCR json: imgs, anns with points; the text . is don't-care"
    holds = Holds("polygon")
    file_name = "textocr.json"
    points_key = "points"

    def region(self, item: Any) -> Parsed:
        """The text tells whether it counts."""
        text = item.get("utf8_string", "")
        return item["points"], "" if text == "." else text, text == "."

    def entry(self, instance: TextInstance) -> dict[str, object]:
        """With its text."""
        return {"points": flat(instance), "utf8_string": "." if instance.ignore else instance.text}

    def ids(self, image: int, number: int) -> tuple[str, str]:
        """Hexadecimal ids, and numbers behind them."""
        return f"{image:016x}", f"{image:016x}_{number}"

    def unwritable(self, instance: TextInstance) -> str:
        """A single full stop is don't-care."""
        return "texts that mean don't-care" if instance.text == "." else ""


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
    return item["points"], text, _flag(item, "illegibility") or is_ignore_mark(text)
