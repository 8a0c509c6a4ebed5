"""One JSON file for each image: LabelMe, FUNSD, CORD."""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ocrsdk.formats.base import (
    IGNORE_MARK,
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
from ocrsdk.settings import options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ocrsdk.formats.base import PageToWrite
    from ocrsdk.formats.files import LabelFile
    from ocrsdk.types import TextInstance


class JsonPages(AnnotationFormat):
    """Base of formats with a JSON file for each image."""

    endings: ClassVar[tuple[str, ...]] = (".json",)

    def write(self, pages: Sequence[PageToWrite], folder: Path) -> list[Path]:
        """A file for each page in ``labels/``."""
        written = []
        for page in pages:
            text = json.dumps(self.made(page), ensure_ascii=False, indent=1, allow_nan=False)
            written.append(write_text(folder / "labels" / self.label_names(page.name)[0], text + "\n"))
        return written

    @abstractmethod
    def made(self, page: PageToWrite) -> object:
        """The content of a page's file."""


class LabelMe(JsonPages):
    """LabelMe: ``shapes`` with ``points``; polygons and rectangles (two corners). The label is the text, or a class.

    A shape labelled ``###``, or flagged ``ignore`` or ``difficult``, is don't-care.
    """

    name = "labelme"
    summary = "LabelMe json beside each image; a shape's label is its text"
    holds = Holds("polygon")

    def recognises(self, file: LabelFile) -> bool:
        """A list of shapes."""
        return isinstance(file.json, dict) and isinstance(file.json.get("shapes"), list)

    def read(self, file: LabelFile) -> Iterator[LabelledPage]:
        """One page."""
        shapes = need(file.json, "shapes", list, file)
        image = need(file.json, "imagePath", str, file) if "imagePath" in file.json else ""
        page = LabelledPage(file, image.replace("\\", "/"), 1, size_of(file.json, "imageHeight", "imageWidth"))
        page.add_all(shapes, _shape, ("shapes",))
        yield page

    def made(self, page: PageToWrite) -> object:
        """Without the pixels, which LabelMe then reads from the file."""
        written: list[object] = [
            {
                "label": IGNORE_MARK if i.ignore else i.text, "points": plain_points(i.polygon), "group_id": None,
                "shape_type": "polygon", "flags": {},
            }
            for i in page.instances
        ]  # fmt: skip
        return {
            "version": "5.4.1", "flags": {}, "shapes": written, "imagePath": f"../{page.image}", "imageData": None,
            "imageHeight": page.size[0], "imageWidth": page.size[1],
        }  # fmt: skip

    def unwritable(self, instance: TextInstance) -> str:
        """``###`` is don't-care."""
        return "texts that mean don't-care" if is_ignore_mark(instance.text) else ""


def _shape(item: Any) -> Parsed:
    points, kind, label, flags = item["points"], item.get("shape_type", "polygon"), item["label"], item.get("flags") or {}
    if kind == "rectangle":
        if len(points) == 2:
            (x0, y0), (x1, y1) = points
            points = box_outline(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        elif len(points) != 4:
            raise ValueError(f"a rectangle of {len(points)} points; it has two corners, or four")
    elif kind != "polygon":
        raise ValueError(f"a shape of the type {cut(kind)}; text is a polygon or a rectangle")
    return points, label, is_ignore_mark(label) or bool(flags.get("ignore") or flags.get("difficult"))


class Funsd(JsonPages):
    """FUNSD (Jaume et al. 2019): ``form`` of entities with words; boxes ``[left, top, right, bottom]``.

    Entities that hold no word are skipped at the level of words; labels and links are not kept.
    """

    name = "funsd"
    summary = "FUNSD json: form, words with boxes"
    holds = Holds("box", ignore=False)

    class Options(options.Options):
        """Options of FUNSD."""

        level: Literal["word", "entity"] = "word"
        """What becomes a region."""

    def recognises(self, file: LabelFile) -> bool:
        """A form."""
        return isinstance(file.json, dict) and isinstance(file.json.get("form"), list)

    def read(self, file: LabelFile) -> Iterator[LabelledPage]:
        """One page."""
        page = LabelledPage(file)
        for index, entity in enumerate(need(file.json, "form", list, file)):
            if self.options.level == "entity":
                page.add_all({index: entity}, _box_and_text, ("form",))
            else:
                page.add_all(need(entity, "words", list, file, ("form", index)), _box_and_text, ("form", index, "words"))
        yield page

    def made(self, page: PageToWrite) -> object:
        """Each region is an entity of one word, of no kind."""
        form = []
        for number, instance in enumerate(page.instances):
            box = plain_bounds(instance.polygon)
            words = [{"box": box, "text": instance.text}]
            form.append({"id": number, "box": box, "text": instance.text, "label": "other", "linking": [], "words": words})
        return {"form": form}


def _box_and_text(item: Any) -> Parsed:
    box = item["box"]
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError(f"box {cut(box)} is no list of four numbers")
    return box_outline(*box), item.get("text", ""), False


class Cord(JsonPages):
    """CORD (Park et al. 2019): ``valid_line`` of words with ``quad``; ``dontcare`` is a list of lists of quads."""

    name = "cord"
    summary = "CORD json: valid_line, words with quad; dontcare"
    holds = Holds("quad")

    def recognises(self, file: LabelFile) -> bool:
        """Valid lines."""
        return isinstance(file.json, dict) and isinstance(file.json.get("valid_line"), list)

    def read(self, file: LabelFile) -> Iterator[LabelledPage]:
        """One page: the words, and then what does not count."""
        lines = need(file.json, "valid_line", list, file)
        meta = file.json.get("meta")
        stated = meta.get("image_size") if isinstance(meta, dict) else None
        page = LabelledPage(file, size=size_of(stated) if isinstance(stated, dict) else None)
        for index, line in enumerate(lines):
            where = ("valid_line", index)
            page.add_all(need(line, "words", list, file, where), _quad_and_text, (*where, "words"))
        groups = file.json.get("dontcare", [])
        for index, group in enumerate(groups if isinstance(groups, list) else [groups]):
            page.add_all(group, lambda quad: (_quad(quad), "", True), ("dontcare", index))
        yield page

    def made(self, page: PageToWrite) -> object:
        """A line for each region, of no category."""
        valid, dontcare = [], []
        for number, instance in enumerate(page.instances, 1):
            corners = plain_points(instance.polygon)
            quad = {f"{axis}{i}": corner[k] for i, corner in enumerate(corners, 1) for k, axis in enumerate("xy")}
            if instance.ignore:
                dontcare.append([quad])
            else:
                words = [{"quad": quad, "is_key": 0, "row_id": number, "text": instance.text}]
                valid.append({"words": words, "category": "", "group_id": number})
        size = {"width": page.size[1], "height": page.size[0]}
        return {"meta": {"image_size": size}, "valid_line": valid, "dontcare": dontcare}

    def unwritable(self, instance: TextInstance) -> str:
        """``###`` is don't-care."""
        return "texts that mean don't-care" if is_ignore_mark(instance.text) else ""


def _quad(quad: Any) -> list[Any]:
    return [quad[f"{axis}{i}"] for i in (1, 2, 3, 4) for axis in "xy"]


def _quad_and_text(item: Any) -> Parsed:
    text = item.get("text", "")
    return _quad(item["quad"]), text, is_ignore_mark(text)
