"""Reading image files: complete, upright, RGB, or a clear error."""

from __future__ import annotations

import io
import os
import re
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps

from ocrsdk.errors import ImageError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAX_PIXELS = 178_956_970
"""Larger images are refused before they are decoded (a small file can ask for gigabytes): Pillow's own bound."""
_EXIF_ORIENTATION = 0x0112


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode an image file.

    The EXIF orientation is applied, once; grey, palette, CMYK and 16-bit images become 8-bit RGB; transparent ones lie on white.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: The file is missing, empty, cut short, no image, one of several pages, or larger than ``MAX_PIXELS``.
    """
    return decode_image(_read(path), str(path))


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """As ``read_image``, from the bytes of an image file; errors call it ``name``."""
    header = _checked(data, name)
    if header.transparent:
        try:
            with Image.open(io.BytesIO(data)) as image:
                return _on_white(image)
        except Exception as error:  # Pillow's readers raise many kinds
            raise ImageError(f"{name}: cannot be decoded; the file is damaged ({type(error).__name__})") from error
    pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise ImageError(f"{name}: cannot be decoded; the {header.format} file is damaged, or of a kind that OpenCV does not read")
    return np.asarray(pixels, dtype=np.uint8)


def as_image(image: object, name: str) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, upright, of the bytes of an image file, a binary file object, an array or a PIL image.

    Args:
        image: An array is (H, W, 3) RGB or (H, W) grey, uint8; it is not changed.
        name: What errors call it.

    Raises:
        ImageError: It is of another type, or cannot be read.
    """
    if hasattr(image, "read") and not isinstance(image, Image.Image):
        image = image.read()
    if isinstance(image, bytes):
        return decode_image(image, name)
    if isinstance(image, Image.Image):
        upright = ImageOps.exif_transpose(image)
        if upright.has_transparency_data:
            return _on_white(upright)
        return np.array(upright.convert("RGB"), dtype=np.uint8)
    if not isinstance(image, np.ndarray):
        raise ImageError(
            f"{name}: a {type(image).__name__} is no image; give bytes, a binary file, a uint8 array in RGB or a PIL image"
        )
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or not image.size:
        raise ImageError(f"{name}: an array of {image.dtype} {image.shape}; expected uint8 of (H, W, 3) in RGB, or (H, W)")
    return np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2))


def _on_white(image: Image.Image) -> NDArray[np.uint8]:
    """OpenCV leaves the transparency out: black ink on nothing would be black on black."""
    ink = ImageOps.exif_transpose(image).convert("RGBA")
    page = Image.new("RGBA", ink.size, "white")
    page.alpha_composite(ink)
    return np.array(page.convert("RGB"), dtype=np.uint8)


class _Header(NamedTuple):
    format: str
    size: tuple[int, int] | None
    """(height, width) of the upright image; None where only decoding tells."""
    transparent: bool


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from error


def _checked(data: bytes, path: str) -> _Header:
    """What the file's header says."""
    if not data:
        raise ImageError(f"{path}: the file is empty (0 bytes)")
    size, pages, transparent = None, 1, False
    try:
        with Image.open(io.BytesIO(data)) as header:
            (width, height), kind = header.size, str(header.format)
            too_large, cut_short = width * height > MAX_PIXELS, _cut_short(data, kind)
            if not (too_large or cut_short):
                size, transparent = _upright_size(header), header.has_transparency_data
                pages = getattr(header, "n_frames", 1) if kind != "MPO" else 1  # a photograph and its previews
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: more than {MAX_PIXELS:,} pixels; too large to decode safely") from None
    except Exception as error:  # Pillow's readers raise many kinds for damaged headers
        raise ImageError(f"{path}: not an image that can be read ({type(error).__name__})") from error
    if too_large:
        raise ImageError(f"{path}: {width} x {height} pixels; more than {MAX_PIXELS:,} are not decoded")
    if cut_short:
        raise ImageError(f"{path}: the {kind} file is cut short ({len(data):,} bytes); copy it again")
    if pages > 1:
        raise ImageError(f"{path}: the {kind} file holds {pages} pages; give each a file of its own")
    return _Header(kind, size, transparent)


def _upright_size(header: Image.Image) -> tuple[int, int] | None:
    """(height, width), if it is certain: what counts is what OpenCV does, which in a JPEG file heeds EXIF, but no XMP."""
    width, height = header.size
    if header.format in ("JPEG", "MPO"):
        exif = Image.Exif()
        exif.load(header.info.get("exif", b""))
        return (width, height) if exif.get(_EXIF_ORIENTATION) in (5, 6, 7, 8) else (height, width)
    return None if header.getexif().get(_EXIF_ORIENTATION, 1) != 1 else (height, width)


def _cut_short(data: bytes, kind: str | None) -> bool:
    """OpenCV fills the missing part of a truncated file with grey without an error, so look for the end mark."""
    if kind in ("JPEG", "MPO"):
        return not (data.endswith(_END_OF_IMAGE) or _reaches_end_mark(data))
    if kind == "PNG":
        return b"IEND" not in data[-1024:]
    return False


_END_OF_IMAGE = b"\xff\xd9"
_MARK = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
"""A mark of a JPEG file; in entropy-coded data 0xFF is followed by zero or by the number of a restart."""


def _reaches_end_mark(data: bytes) -> bool:
    """Whether the first image of a JPEG file has its end mark, whatever follows it: a second image, a film, a vendor's bytes."""
    position = 2
    while (mark := _MARK.search(data, position)) is not None:
        position = mark.end()
        if mark[1] == b"\xd9":
            return True
        position += int.from_bytes(data[position : position + 2], "big")  # a segment, a thumbnail in it included
    return False


def check_image(path: Path, decode: bool = True) -> tuple[int, int]:
    """(height, width) of the upright image in pixels; raises what ``read_image`` would.

    Args:
        path: The image file.
        decode: Decode the pixels too; else look at the header and the end mark only, if these tell the size.
    """
    size = None if decode else _checked(_read(path), str(path)).size
    if size is None:
        height, width = read_image(path).shape[:2]
        return height, width
    return size


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) uint8 RGB as PNG or JPEG, by the ending of ``path``.

    Raises:
        ImageError: The file cannot be written.
    """
    done, data = cv2.imencode(path.suffix, image[..., ::-1])
    if not done:
        raise ImageError(f"{path}: cannot be encoded")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise ImageError(f"{path}: cannot be written ({os.strerror(error.errno or 0)})") from error
