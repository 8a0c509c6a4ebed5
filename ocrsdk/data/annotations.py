"""Readers of annotation files and of data folders.

A data folder holds ``images/`` and ``labels/``; a data set for training holds such folders as ``train/`` and ``val/``. The label of
``images/NAME.jpg`` is, by its name,

- ``labels/gt_NAME.txt`` or ``labels/NAME.txt``: the ICDAR-2015 text format, quads,
- ``labels/NAME.jpg.txt``: the same with polygons of any length.
"""

from __future__ import annotations

import math
import os
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ocrsdk.errors import AnnotationError, DataError
from ocrsdk.geometry import is_valid
from ocrsdk.types import Annotation, TextInstance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
IGNORE_MARK = "###"


def read_icdar15(path: Path, dropped: list[str] | None = None) -> tuple[TextInstance, ...]:
    """Read one ICDAR-2015 label file: ``x1,y1,...,x4,y4,transcription`` a line.

    UTF-8 with or without BOM, LF or CRLF. The transcription is everything after the eighth comma, kept as it is; it may be missing.
    ``###`` marks a don't-care region, also in quotes, between blanks, or behind one more column (a script, a flag). An empty file
    means a page without text.

    Args:
        path: The label file.
        dropped: Where regions that cross themselves, touch themselves or have no area are told; they are errors if None.

    Raises:
        AnnotationError: A line is malformed, or of another format or unit; the message names file, line and what was found.
    """
    return _read_lines(path, _split_quad, dropped)


def read_icdar_polygons(path: Path, dropped: list[str] | None = None) -> tuple[TextInstance, ...]:
    """Read one polygon label file: ``x1,y1,...,xn,yn,transcription`` a line, n >= 3.

    As ``read_icdar15``, but the last field is the transcription, so it cannot hold a comma and cannot be missing.

    Args:
        path: The label file.
        dropped: As for ``read_icdar15``.

    Raises:
        AnnotationError: A line is malformed.
    """
    return _read_lines(path, _split_polygon, dropped)


def _read_lines(
    path: Path, split: Callable[[str, str], tuple[list[str], str]], dropped: list[str] | None
) -> tuple[TextInstance, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: not UTF-8 (byte {error.start}); save the labels as UTF-8") from error
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror})") from error
    instances = []
    for number, raw in enumerate(text.split("\n"), 1):
        if (line := raw.removesuffix("\r")).strip():
            where = f"{path}:{number}"
            coordinates, transcription = split(line, where)
            polygon = _parse_polygon(coordinates, line, where)
            if not is_valid(polygon):
                problem = f"{where}: the polygon crosses itself, touches itself or has no area: {_cut(line)}"
                if dropped is None:
                    raise AnnotationError(f"{problem}; give the corners in order around the text, or --on-bad-box drop")
                dropped.append(problem)
                continue
            instances.append(TextInstance(polygon.astype(np.float32), transcription, _is_ignore_mark(transcription)))
    if instances and max(np.abs(instance.polygon).max() for instance in instances) <= _ONE:
        raise AnnotationError(
            f"{path}: all coordinates lie between 0 and 1, as shares of the page's size do; multiply them by its width and height"
        )
    return tuple(instances)


_ONE = 1.5
"""Pixels. Where no coordinate is larger, no text can be; shares of the page may lie a little beyond it."""


def _is_ignore_mark(transcription: str) -> bool:
    return transcription.rpartition(",")[2].strip().strip("\"'").strip() == IGNORE_MARK


def _split_quad(line: str, where: str) -> tuple[list[str], str]:
    fields = line.split(",", 8)
    if len(fields) < 8:
        raise AnnotationError(
            f"{where}: {len(fields)} fields, expected 8 coordinates and a text (x1,y1,...,x4,y4,text): {_cut(line)}"
        )
    text = fields[8] if len(fields) > 8 else ""
    rest = text.split(",")
    if len(rest) >= 3 and not _THOUSANDS.fullmatch(text) and _are_corners(fields[:8], rest[: len(rest) // 2 * 2]):
        raise AnnotationError(
            f"{where}: {len(line.split(','))} fields, which look like the outline of a polygon with more than four corners: "
            f"{_cut(line)}; such labels belong into NAME.jpg.txt, for the image NAME.jpg"
        )
    return fields[:8], text


_THOUSANDS = re.compile(r"\s*\d{1,3}(,\d{3}){1,2}(\.\d+)?\s*")


def _are_corners(quad: list[str], more: list[str]) -> bool:
    """Whether fields behind four corners are further ones: numbers, and close to the first four."""
    try:
        corners, further = (np.array([_number(field) for field in fields]).reshape(-1, 2) for fields in (quad, more))
    except ValueError:
        return False
    low, high = corners.min(axis=0), corners.max(axis=0)
    side = (high - low).max()
    if len(further) <= 2:  # a text like 1,2,3 may pass for a corner
        return bool(((further >= low - side / 2) & (further <= high + side / 2)).all())
    steps = np.linalg.norm(np.diff(np.concatenate([corners[-1:], further]), axis=0), axis=1)
    return bool((steps <= 4 * side).all())


def _split_polygon(line: str, where: str) -> tuple[list[str], str]:
    *coordinates, text = line.split(",")
    if len(coordinates) < 6 or len(coordinates) % 2:
        raise AnnotationError(
            f"{where}: {len(coordinates)} coordinates before the text, expected an even number from 6 on "
            f"(x1,y1,...,xn,yn,text): {_cut(line)}"
        )
    if len(coordinates) in (10, 12) and not _are_corners(coordinates[:8], coordinates[8:]):
        raise AnnotationError(
            f"{where}: corner {','.join(coordinates[8:10])} lies far from the first four: {_cut(line)}. A text with commas cannot "
            "be written in this format; quads belong into gt_NAME.txt"
        )
    return coordinates, text


_FARTHEST = 1e6
"""Pixels from the origin. No image is that large, and float32 still tells hundredths apart below a tenth of it."""


def _parse_polygon(fields: list[str], line: str, where: str) -> NDArray[np.float64]:
    numbers = []
    for field in fields:
        try:
            number = _number(field)
        except ValueError:
            raise AnnotationError(f"{where}: coordinate {field.strip()!r} is not a number: {_cut(line)}") from None
        if not math.isfinite(number):
            raise AnnotationError(f"{where}: coordinate {field.strip()!r} is not finite: {_cut(line)}")
        if abs(number) > _FARTHEST:
            raise AnnotationError(f"{where}: coordinate {field.strip()!r} is beyond any page: {_cut(line)}")
        numbers.append(number)
    return np.array(numbers, dtype=np.float64).reshape(-1, 2)


def _number(field: str) -> float:
    """What ``float`` reads, but for ``1_0``, which is ten to Python, and digits of other scripts."""
    if "_" in field or not field.isascii():
        raise ValueError(field)
    return float(field)


def _cut(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:57] + "...")


def label_name(image_name: str, instances: Iterable[TextInstance]) -> str:
    """The file name that tells the reader which format holds these regions: quads, or polygons of any length."""
    quads = all(len(instance.polygon) == 4 for instance in instances)
    return f"gt_{Path(image_name).stem}.txt" if quads else f"{image_name}.txt"


def write_labels(folder: Path, image_name: str, instances: Sequence[TextInstance]) -> Path:
    """Write the regions of one image as ``read_annotation`` reads them; returns the file's path.

    Raises:
        AnnotationError: A text cannot be written in the format.
    """
    path = folder / label_name(image_name, instances)
    is_polygons = path.name.startswith(image_name)
    lines = []
    for number, instance in enumerate(instances, 1):
        if "\n" in instance.text or "\r" in instance.text or (is_polygons and "," in instance.text):
            raise AnnotationError(f"{path}: region {number}: {instance.text!r} cannot be written in this format")
        coordinates = ",".join(f"{value:.2f}".rstrip("0").rstrip(".") for value in instance.polygon.reshape(-1))
        lines.append(f"{coordinates},{IGNORE_MARK if instance.ignore else instance.text}\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def find_images(folder: Path) -> list[Path]:
    """Image files directly in ``folder``, sorted by name."""
    return sorted(p for p in _visible(folder) if p.suffix.lower() in IMAGE_SUFFIXES)


def _visible(folder: Path) -> Iterator[Path]:
    """Files that are not hidden, and links that lead nowhere: a pipe or a socket would be waited for."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and (entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())):
                yield Path(entry.path)


def other_files(folder: Path) -> list[str]:
    """What else lies in a folder of images, sorted, with ``/`` behind sub-folders; hidden names and systems' own do not count."""
    images = {path.name for path in find_images(folder)}
    with os.scandir(folder) as entries:
        names = {entry.name + ("/" if entry.is_dir() else "") for entry in entries if not entry.name.startswith(".")}
    return sorted(names - images - {"Thumbs.db", "desktop.ini"})


def pair_files(root: Path) -> tuple[list[tuple[Path, Path]], list[DataError]]:
    """Match ``images/`` with ``labels/``.

    Returns:
        (image, label) pairs, and one error for each image without a label and each label without an image.

    Raises:
        DataError: ``root`` is no data folder, or it holds no image.
    """
    images_dir, labels_dir = root / "images", root / "labels"
    if not root.is_dir():
        raise DataError(f"{root}: is a file, not a data folder" if root.exists() else f"{root}: no such folder")
    for folder in (images_dir, labels_dir):
        if not folder.is_dir():
            raise DataError(f"{root}: no {folder.name}/ folder in it; expected images/ and labels/ (or train/ and val/ with these)")
    images = find_images(images_dir)
    if not images:
        raise DataError(f"{images_dir}: no images in it (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
    pairs, problems, labels = [], list[DataError](), dict[str, Path]()
    for path in sorted(path for path in _visible(labels_dir) if path.suffix.lower() == ".txt"):
        if (twin := labels.setdefault(_plain(path.name), path)) != path:
            problems.append(DataError(f"{path}: would be the label of the same image as {twin.name}; remove one"))
    used: dict[str, Path] = {}
    for image in images:
        stem = _plain(image.stem)
        names = [name for name in (f"gt_{stem}.txt", f"{stem}.txt", f"{_plain(image.name)}.txt") if name in labels]
        if not names:
            problems.append(
                DataError(f"{image}: no label file; expected {labels_dir / f'gt_{stem}.txt'} (empty for a page without text)")
            )
        elif len(names) > 1:
            problems.append(DataError(f"{image}: two label files, {names[0]} and {names[1]}; remove one"))
        elif names[0] in used:
            problems.append(
                DataError(f"{image}: shares {labels[names[0]]} with {used[names[0]].name}; rename one image and its label")
            )
        else:
            pairs.append((image, labels[names[0]]))
        used.update(dict.fromkeys(names, image))
    problems += [
        DataError(f"{path}: a label without an image in {images_dir}") for name, path in labels.items() if name not in used
    ]
    return pairs, problems


def _plain(name: str) -> str:
    """The name, the same on every system: composed characters, endings in lower case."""
    stem, suffix = os.path.splitext(unicodedata.normalize("NFC", name))  # noqa: PTH122 - of a name, not of a path
    if suffix.lower() == ".txt" and Path(stem).suffix.lower() in IMAGE_SUFFIXES:
        stem = _plain(stem)
    return stem + (suffix.lower() if suffix.lower() in {".txt", *IMAGE_SUFFIXES} else suffix)


def read_annotation(image: Path, label: Path, dropped: list[str] | None = None) -> Annotation:
    """The annotation of one image; the arguments are those of ``read_icdar15``.

    Raises:
        AnnotationError: The label file is malformed.
    """
    is_polygons = _plain(label.name) == f"{_plain(image.name)}.txt"
    return Annotation(image, (read_icdar_polygons if is_polygons else read_icdar15)(label, dropped))
