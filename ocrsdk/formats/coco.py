"""COCO detection files, and the two that are made like them: COCO-Text and TextOCR."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from ocrsdk.formats.base import (
    Holds,
    LabelledPage,
    Parsed,
    box_outline,
    is_ignore_mark,
    need,
    plain_bounds,
    size_of,
)
from ocrsdk.formats.files import cut
from ocrsdk.formats.json_sets import JsonSet, flag, flat, four
from ocrsdk.settings import options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocrsdk.formats.base import PageToWrite
    from ocrsdk.formats.files import LabelFile
    from ocrsdk.types import TextInstance


def _xywh(box: Any) -> list[Any]:
    left, top, width, height = four(box)
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
    outlines, crowd = item.get("segmentation"), flag(item, "iscrowd")
    if isinstance(outlines, dict) and not crowd:
        raise ValueError("run lengths, which are no outline; export polygons")
    if isinstance(outlines, list) and outlines:
        points = outlines[0] if isinstance(outlines[0], list) else outlines
    else:
        points = _xywh(item["bbox"])
    texts = (item[key] for key in ("text", "utf8_string", "transcription", "caption") if key in item)
    attributes = item.get("attributes")
    text = next(texts, attributes.get("text", attributes.get("transcription", "")) if isinstance(attributes, dict) else "")
    return points, text, crowd or flag(item, "ignore") or is_ignore_mark(text)


class _KeyedSet(JsonSet):
    """COCO-Text and TextOCR: dictionaries ``imgs`` and ``anns`` by id."""

    points_key = ""

    class Options(options.Options):
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

    @abstractmethod
    def region(self, item: Any) -> Parsed:
        """One entry of ``anns``."""

    @abstractmethod
    def entry(self, instance: TextInstance) -> dict[str, object]:
        """What is written of a region, besides ids, box and area."""

    @abstractmethod
    def ids(self, image: int, number: int) -> tuple[int | str, int | str]:
        """The ids of an image and of a region."""

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
