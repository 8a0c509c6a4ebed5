"""Reading image files: complete, upright, RGB, or a clear error."""

from __future__ import annotations

import io
import os
import re
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from ocrsdk.errors import ImageError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAX_PIXELS = 178_956_970
"""Larger images are refused before they are decoded (a small file can ask for gigabytes): Pillow's own bound."""
_EXIF_ORIENTATION = 0x0112
_TIFF_BITS = 258


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode an image file.

    The EXIF orientation is applied, once; grey, palette, CMYK and 16-bit images become 8-bit RGB; transparent ones lie on white.
    Many scanners and cameras fill 10, 12 or 14 of 16 bits: the largest number of as few of 8, 10, 12, 14 or 16 bits as the image
    needs becomes 255.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: The file is missing, empty, cut short, no image, one of several pages, or larger than ``MAX_PIXELS``.
    """
    return decode_image(_read(path), str(path))


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """As ``read_image``, from the bytes of an image file; errors call it ``name``."""
    header = _checked(data, name)
    if header.bits <= 8 and (header.transparent or not header.ended):
        try:
            with Image.open(io.BytesIO(data)) as image:
                return _on_white(image) if header.transparent else np.array(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)
        except Exception as error:  # Pillow's readers raise many kinds
            raise ImageError(f"{name}: cannot be decoded; the file is damaged ({type(error).__name__})") from error
    flags = cv2.IMREAD_COLOR_RGB if header.bits <= 8 else cv2.IMREAD_UNCHANGED
    try:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error:  # of some sizes that it finds in a header, it tells so
        pixels = None
    if pixels is None:
        raise ImageError(f"{name}: cannot be decoded; the {header.format} file is damaged, or of a kind that OpenCV does not read")
    if header.bits > 8:
        return _from_deep(pixels, header.orientation, name)
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
        if upright.mode.startswith(("I", "F")):  # Pillow would cut them off at 255
            return _from_deep(np.array(upright), 1, name)
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


_BITS = (8, 10, 12, 14, 16)
_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}
"""EXIF orientation -> quarter turns against the clock, and whether the result is mirrored left to right."""


def _from_deep(pixels: NDArray[Any], orientation: int, name: str) -> NDArray[np.uint8]:
    """8-bit RGB of an image with more bits: (H, W), or with channels in OpenCV's order, (H, W, 2 to 4)."""
    if pixels.dtype.kind not in "ui" or int(pixels.min()) < 0 or int(pixels.max()) >= 2**16:
        raise ImageError(f"{name}: pixels of {pixels.dtype} from {pixels.min()} to {pixels.max()}; save it with 8 or 16 bits")
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    values = pixels.reshape(*pixels.shape[:2], channels).astype(np.float32)
    ink, alpha = (values[..., :-1], values[..., -1:] / 65535) if channels in (2, 4) else (values, np.float32(1))
    brightest = next(2**bits - 1 for bits in _BITS if ink.max() < 2**bits)
    on_white = ink * (255 / brightest) * alpha + 255 * (1 - alpha)
    rgb = np.repeat(on_white, 3, axis=2) if on_white.shape[2] == 1 else on_white[..., ::-1]
    turns, mirrored = _TURNS.get(orientation, (0, False))
    upright = np.rot90(rgb, turns)
    return np.ascontiguousarray(np.rint(upright[:, ::-1] if mirrored else upright), dtype=np.uint8)


class _Header(NamedTuple):
    format: str
    size: tuple[int, int] | None
    """(height, width) of the upright image; None where only decoding tells."""
    transparent: bool
    bits: int
    """Of a channel."""
    orientation: int
    """EXIF's, of images with more than 8 bits."""
    ended: bool
    """Whether its end mark is there. Without it, all pixels are there, too."""


_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
"""A pipe is opened without waiting for a writer, to be told from a file."""


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, _READ)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(f"{path}: is no file, but a folder, a pipe or a device")
            data = os.read(descriptor, status.st_size + 1)
            while len(data) < status.st_size and (more := os.read(descriptor, status.st_size - len(data))):
                data += more  # a call gives two gigabytes at most, and less from some file systems
            return data
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from error


def _checked(data: bytes, path: str) -> _Header:
    """What the file's header says."""
    if not data:
        raise ImageError(f"{path}: the file is empty (0 bytes)")
    size, pages, transparent, bits, orientation = None, 1, False, 8, 1
    try:
        with Image.open(io.BytesIO(data)) as header:
            (width, height), kind = header.size, str(header.format)
            too_large, ended = width * height > MAX_PIXELS, _has_end_mark(data, kind)
            cut_short = not (too_large or ended or (kind == "PNG" and _loads(data)))
            if not (too_large or cut_short):
                size, transparent, bits = _upright_size(header), header.has_transparency_data, _bits(header, data)
                orientation = header.getexif().get(_EXIF_ORIENTATION, 1) if bits > 8 else 1
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
    return _Header(kind, size, transparent, bits, orientation, ended)


def _bits(header: Image.Image, data: bytes) -> int:
    """Bits of a channel; Pillow's mode tells of a colour image 8, whatever the file holds."""
    if header.format == "PNG":
        return int(data[24])  # in IHDR, which is always the first chunk
    if isinstance(header, TiffImageFile):
        return int(max(header.tag_v2.get(_TIFF_BITS, (8,))))
    return 8


def _upright_size(header: Image.Image) -> tuple[int, int] | None:
    """(height, width), if it is certain: what counts is what OpenCV does, which in a JPEG file heeds EXIF, but no XMP."""
    width, height = header.size
    if header.format in ("JPEG", "MPO"):
        exif = Image.Exif()
        exif.load(header.info.get("exif", b""))
        return (width, height) if exif.get(_EXIF_ORIENTATION) in (5, 6, 7, 8) else (height, width)
    return None if header.getexif().get(_EXIF_ORIENTATION, 1) != 1 else (height, width)


def _has_end_mark(data: bytes, kind: str | None) -> bool:
    """OpenCV fills the missing part of a truncated file with grey without an error, so look for the end mark.

    What stands behind it does not matter. Other formats need none: their readers notice what is missing.
    """
    if kind in ("JPEG", "MPO"):
        return data.endswith(_END_OF_IMAGE) or _reaches_end_mark(data)
    if kind == "PNG":
        position = 8
        while position + 12 <= len(data):
            if data[position + 4 : position + 8] == b"IEND":
                return True
            position += 12 + int.from_bytes(data[position : position + 4], "big")
        return False
    return True


def _loads(data: bytes) -> bool:
    """Whether all pixels of a PNG file are there: they carry checksums, and Pillow makes none up."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except Exception:  # noqa: BLE001 - Pillow's readers raise many kinds
        return False
    return True


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


def check_image(path: Path) -> tuple[int, int]:
    """(height, width) of the upright image in pixels, by its header and its end mark; decoded only if these do not tell.

    Raises:
        ImageError: As for ``read_image``, as far as it can be known.
    """
    data = _read(path)
    height, width = _plain_jpeg(data) or _checked(data, str(path)).size or decode_image(data, str(path)).shape[:2]
    return height, width


def _plain_jpeg(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a whole JPEG file without EXIF or a second image, which is nearly every page; None for all others.

    What ``_checked`` says, in a tenth of the time: opening a million pages is little else.
    """
    if data[:2] != b"\xff\xd8" or not data.endswith(_END_OF_IMAGE):
        return None
    at, end, size = 2, len(data), None
    while at + 9 < end and data[at] == 0xFF:
        mark, length = data[at + 1], (data[at + 2] << 8) + data[at + 3]
        if mark == _SCAN:
            return size
        if mark in _FRAMES and size is None:
            size = (data[at + 5] << 8) + data[at + 6], (data[at + 7] << 8) + data[at + 8]
            fine = data[at + 4] == 8 and length == 8 + 3 * data[at + 9] and data[at + 9] in (1, 3)
            if not fine or not 0 < size[0] * size[1] <= MAX_PIXELS:
                return None
        elif mark not in _HARMLESS or length < 2:
            return None
        at += 2 + length
    return None


_FRAMES = (0xC0, 0xC1, 0xC2)
"""Marks of frames that every reader knows: baseline, extended and progressive."""
_SCAN = 0xDA
"""The mark of pixels."""
_HARMLESS = (0xDB, 0xC4, 0xDD, 0xFE, 0xE0)
"""Marks of tables, of restarts, of comments and of JFIF."""


def is_blank(image: NDArray[np.uint8]) -> bool:
    """Whether all pixels are equal, as where a reader has misunderstood a file."""
    return bool((image[::16, ::16] == image[0, 0]).all() and (image == image[0, 0]).all())


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
