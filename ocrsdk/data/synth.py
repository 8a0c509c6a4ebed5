"""Generated pages with exact polygons: receipts, and words that are rotated or bent.

Fonts come with the libraries: Pillow's built-in scalable font and OpenCV's Hershey strokes. A page is a function of
(seed, page number, kind) alone.
"""

from __future__ import annotations

import math
import string
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ocrsdk.data.image import write_image
from ocrsdk.errors import DataError
from ocrsdk.formats.base import PageToWrite
from ocrsdk.formats.make import make_format
from ocrsdk.geometry import apply_matrix
from ocrsdk.types import TextInstance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

PageKind = Literal["receipt", "scene"]

_HERSHEY = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX)
# fmt: off
_WORDS = (
    "TOTAL", "CASH", "CHANGE", "INVOICE", "RECEIPT", "TAX", "GST", "RM", "QTY", "PRICE", "AMOUNT", "ITEM", "DATE",
    "TIME", "TABLE", "CASHIER", "MEMBER", "POINTS", "DISCOUNT", "SUBTOTAL", "ROUNDING", "VISA", "MASTER",
    "COFFEE", "TEA", "RICE", "NOODLE", "CHICKEN", "FISH", "BREAD", "MILK", "SUGAR", "WATER", "JUICE", "PAPER",
    "PEN", "BOOK", "SCREW", "PAINT", "BOLT", "CABLE", "LAMP", "SOAP", "THANK", "YOU", "PLEASE", "COME", "AGAIN",
    "STREET", "ROAD", "NO", "TEL", "FAX", "SHOP", "STORE", "MART", "HARDWARE", "TRADING", "SDN", "BHD",
)
# fmt: on


@dataclass(frozen=True, eq=False)
class SynthPage:
    """A drawn page and the text on it."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    instances: tuple[TextInstance, ...]
    """Exact outlines of the ink, in pixels of ``image``."""


@dataclass(frozen=True, eq=False)
class _Ink:
    """One line of text: coverage 0 to 255, tight around the ink."""

    coverage: NDArray[np.uint8]
    text: str

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.coverage.shape[0], self.coverage.shape[1]


def draw_page(seed: int, number: int, kind: PageKind) -> SynthPage:
    """Draw page ``number`` of the set with this seed."""
    rng = np.random.default_rng((seed, number, ("receipt", "scene").index(kind)))
    return _receipt(rng) if kind == "receipt" else _scene(rng)


def pages(count: int, seed: int, scenes: float = 0.25) -> Iterator[SynthPage]:
    """``count`` pages, of which the share ``scenes`` shows rotated and bent words instead of a receipt."""
    for number in range(count):
        is_scene = math.floor((number + 1) * scenes) > math.floor(number * scenes)
        yield draw_page(seed, number, "scene" if is_scene else "receipt")


def write_pages(folder: Path, count: int, seed: int, scenes: float = 0.25) -> Iterator[Path]:
    """Write pages as ``images/NNNN.png`` with labels beside in ``labels/``; yields each image's path when it is there.

    Raises:
        DataError: The folder cannot be written.
    """
    try:
        for name in ("images", "labels"):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be created ({error.strerror}); choose another folder") from error
    for number, page in enumerate(pages(count, seed, scenes)):
        path = folder / "images" / f"{number:04d}.png"
        write_image(path, page.image)
        rounded = [replace(instance, polygon=instance.polygon.round(2)) for instance in page.instances]
        kind = make_format("icdar15" if all(len(instance.polygon) == 4 for instance in rounded) else "icdar-poly")
        kind.write([PageToWrite(path.name, f"images/{path.name}", path, page.image.shape[:2], rounded)], folder)
        yield path


# -------------------------------------------------------------------- ink


def _write_text(text: str, height: int, rng: np.random.Generator, hershey: bool, family: int) -> _Ink:
    """Draw a line whose capitals are about ``height`` pixels tall."""
    if hershey:
        font = _HERSHEY[family % len(_HERSHEY)]
        scale = height / 21.0
        thickness = max(1, round(height / 11))
        (width, tall), base = cv2.getTextSize(text, font, scale, thickness)
        canvas = np.zeros((tall + base + 2 * thickness + 8, width + 2 * thickness + 8), np.uint8)
        cv2.putText(canvas, text, (thickness + 4, tall + thickness + 4), font, scale, 255, thickness, cv2.LINE_AA)
    else:
        font_object = ImageFont.load_default(size=height / 0.72)
        left, top, right, bottom = font_object.getbbox(text)
        picture = Image.new("L", (math.ceil(right - left) + 8, math.ceil(bottom - top) + 8))
        ImageDraw.Draw(picture).text((4 - left, 4 - top), text, fill=255, font=font_object)
        canvas = np.array(picture)
    rows, columns = np.flatnonzero(canvas.max(axis=1) > 64), np.flatnonzero(canvas.max(axis=0) > 64)
    if len(rows) == 0 or len(columns) == 0:  # all blank, as a single space would be
        return _Ink(np.zeros((1, 1), np.uint8), text)
    return _Ink(np.ascontiguousarray(canvas[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]), text)


def _blend(page: NDArray[np.uint8], coverage: NDArray[np.uint8], x: int, y: int, colour: NDArray[np.float64]) -> None:
    """Put ink on the page, in place; it must lie on the page."""
    height, width = coverage.shape
    part = page[y : y + height, x : x + width]
    alpha = coverage[..., None].astype(np.float32) / 255
    part[:] = np.round(part * (1 - alpha) + colour.astype(np.float32) * alpha).astype(np.uint8)


def _box(x: float, y: float, height: float, width: float) -> NDArray[np.float64]:
    """Corners of the pixels of a tight ink box, clockwise from the top-left."""
    return np.array([[x, y], [x + width - 1, y], [x + width - 1, y + height - 1], [x, y + height - 1]])


def _paper(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Nearly white, unevenly lit, a little noisy."""
    base = rng.uniform(205, 252) + rng.uniform(-6, 6, 3)
    slope = np.linspace(0, 1, width)[None, :] * rng.uniform(-25, 5) + np.linspace(0, 1, height)[:, None] * rng.uniform(-25, 5)
    noise = rng.normal(0, rng.uniform(1, 4), (height, width))
    return np.clip(base[None, None] + (slope + noise)[..., None], 0, 255).astype(np.uint8)


def _finish(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The camera: a little blur on some pages."""
    if rng.random() < 0.4:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.8)), dtype=np.uint8)
    return image


# -------------------------------------------------------------------- receipts


def _number(rng: np.random.Generator) -> str:
    return f"{rng.integers(0, 300)}.{rng.integers(0, 100):02d}"


def _phrase(rng: np.random.Generator, most: int = 4) -> str:
    words = [str(rng.choice(_WORDS)) for _ in range(rng.integers(1, most + 1))]
    text = " ".join(words)
    return text.title() if rng.random() < 0.3 else text


def _code(rng: np.random.Generator) -> str:
    alphabet = list(string.ascii_uppercase + string.digits)
    return "".join(rng.choice(alphabet, size=rng.integers(4, 11))) + f"-{rng.integers(10, 9999)}"


def _receipt(rng: np.random.Generator) -> SynthPage:
    width = int(rng.integers(480, 641))
    text_height = int(rng.integers(12, 19))
    hershey, family = bool(rng.random() < 0.5), int(rng.integers(4))
    lines = _receipt_lines(rng)
    pitch = round(text_height * rng.uniform(1.7, 2.4))
    margin = int(rng.integers(20, 50))
    height = 2 * margin + pitch * (len(lines) + 1)
    page = _paper(rng, height, width)
    colour = np.full(3, rng.uniform(10, 90)) + rng.uniform(-8, 8, 3)
    instances: list[TextInstance] = []
    y = margin
    for columns in lines:
        if not columns:  # a ruling
            cv2.line(page, (margin, y + pitch // 2), (width - margin, y + pitch // 2), colour.tolist(), 1, cv2.LINE_AA)
        for share, text in columns:
            ink = _write_text(text, text_height, rng, hershey, family)
            tall, wide = ink.size
            room = width - 2 * margin
            x = margin + round(share * max(room - wide, 0))
            if wide <= room and not _hits(instances, _box(x, y, tall, wide), text_height):
                _blend(page, ink.coverage, x, y, colour)
                instances.append(TextInstance(_box(x, y, tall, wide).astype(np.float32), text))
        y += pitch
    if rng.random() < 0.6:
        page, instances = _turn(page, instances, rng.uniform(-3, 3))
    return SynthPage(_finish(page, rng), tuple(instances))


def _receipt_lines(rng: np.random.Generator) -> list[list[tuple[float, str]]]:
    """Lines of (share of the free width on the left, text); an empty line is a ruling."""
    lines: list[list[tuple[float, str]]] = [[(0.5, _phrase(rng))] for _ in range(rng.integers(2, 5))]
    lines.append([])
    lines += [[(0.0, _phrase(rng, 2) + ":"), (0.55, _code(rng))] for _ in range(rng.integers(1, 4))]
    lines.append([])
    for _ in range(rng.integers(4, 13)):
        lines.append([(0.0, _phrase(rng, 3)), (0.7, str(rng.integers(1, 10))), (1.0, _number(rng))])
    lines.append([])
    lines += [[(0.0, _phrase(rng, 2)), (1.0, _number(rng))] for _ in range(rng.integers(1, 4))]
    lines += [[(0.5, _phrase(rng))] for _ in range(rng.integers(1, 3))]
    return lines


def _hits(instances: list[TextInstance], box: NDArray[np.float64], gap: float) -> bool:
    """Would this box come closer than ``gap`` to text of the same line?"""
    low, high = box.min(axis=0), box.max(axis=0)
    return any(
        (p.max(axis=0) >= low - (gap, 0)).all() and (p.min(axis=0) <= high + (gap, 0)).all()
        for p in (instance.polygon for instance in instances)
    )


def _turn(page: NDArray[np.uint8], instances: list[TextInstance], degrees: float) -> tuple[NDArray[np.uint8], list[TextInstance]]:
    """Rotate the page about its centre, on a canvas that holds all of it."""
    height, width = page.shape[:2]
    matrix = np.eye(3)
    matrix[:2] = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    corners = apply_matrix([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], matrix)
    low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
    matrix[:2, 2] -= low
    size = (int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1)
    turned = cv2.warpAffine(page, matrix[:2], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    moved = [TextInstance(apply_matrix(i.polygon, matrix), i.text, i.ignore) for i in instances]
    return np.asarray(turned, dtype=np.uint8), moved


# -------------------------------------------------------------------- scenes


def _scene(rng: np.random.Generator) -> SynthPage:
    height, width = int(rng.integers(560, 760)), int(rng.integers(560, 760))
    page = _paper(rng, height, width)
    page = np.asarray(np.clip(page * rng.uniform(0.6, 1.0, 3), 0, 255), dtype=np.uint8)
    taken = np.zeros((height, width), np.uint8)
    instances: list[TextInstance] = []
    for _ in range(60):
        if len(instances) >= 14:
            break
        text_height = int(rng.integers(16, 34))
        ink = _write_text(_phrase(rng, 2), text_height, rng, bool(rng.random() < 0.5), int(rng.integers(4)))
        coverage, polygon = _bend(ink, rng) if rng.random() < 0.4 else _rotate(ink, rng)
        tall, wide = coverage.shape
        if tall + 8 > height or wide + 8 > width:
            continue
        x, y = int(rng.integers(4, width - wide - 3)), int(rng.integers(4, height - tall - 3))
        outline = np.round(polygon + (x, y)).astype(np.int32)
        mark = np.zeros_like(taken)
        cv2.fillPoly(mark, [outline], 1)
        cv2.polylines(mark, [outline], True, 1, thickness=text_height // 2)
        if (taken & mark).any():
            continue
        taken |= mark
        _blend(page, coverage, x, y, rng.uniform(0, 90, 3))
        instances.append(TextInstance((polygon + (x, y)).astype(np.float32), ink.text))
    return SynthPage(_finish(page, rng), tuple(instances))


def _rotate(ink: _Ink, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Turned ink and its outline (4, 2), both on a tight canvas."""
    tall, wide = ink.size
    angle = math.radians(rng.uniform(-60, 60))
    c, s = math.cos(angle), math.sin(angle)
    corners = _box(0, 0, tall, wide) @ np.array([[c, s], [-s, c]])
    low = np.floor(corners.min(axis=0)) - 2
    high = np.ceil(corners.max(axis=0)) + 2
    matrix = np.array([[c, -s, -low[0]], [s, c, -low[1]]])
    size = (int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1)
    coverage = cv2.warpAffine(ink.coverage, matrix, size, flags=cv2.INTER_LINEAR)
    return np.asarray(coverage, dtype=np.uint8), corners - low


def _bend(ink: _Ink, rng: np.random.Generator, points: int = 7) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Ink along an arc, and its outline (2 * points, 2): top edge left to right, bottom edge right to left."""
    tall, wide = ink.size
    sweep = rng.uniform(0.5, 1.4)  # radians of arc that the text covers
    up = rng.random() < 0.5
    radius = wide / sweep + tall

    def place(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points of the flat ink (u right, v down) on the arc."""
        angle = (u / max(wide - 1, 1) - 0.5) * sweep
        distance = radius - v if up else radius - (tall - 1) + v
        x, y = distance * np.sin(angle), distance * np.cos(angle)
        return np.stack([x, -y if up else y], axis=-1)

    along = np.linspace(0, wide - 1, points)
    top, bottom = place(along, np.zeros(points)), place(along, np.full(points, tall - 1.0))
    outline = np.concatenate([top, bottom[::-1]])
    # The arc bulges beyond the chords of the outline, so the canvas is taken from many points.
    dense = np.linspace(0, wide - 1, 200)
    edge = np.concatenate([place(dense, np.zeros(200)), place(dense, np.full(200, tall - 1.0))])
    low, high = np.floor(edge.min(axis=0)) - 2, np.ceil(edge.max(axis=0)) + 2
    x, y = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1))
    upward = -y if up else y
    distance, angle = np.hypot(x, y), np.arctan2(x, upward)
    u = ((angle / sweep) + 0.5) * (wide - 1)
    v = radius - distance if up else distance - radius + (tall - 1)
    coverage = cv2.remap(ink.coverage, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR, borderValue=0)
    return np.asarray(coverage, dtype=np.uint8), outline - low
