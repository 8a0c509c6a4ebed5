"""Decoded images, from their files or from a cache.

Only this deterministic step is ever cached: there is no path from a random view to a cache.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ocrsdk.cache.versioning import fingerprint
from ocrsdk.data.image import read_image
from ocrsdk.errors import ImageError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ocrsdk.cache.base import CacheBackend

_HEADER = struct.Struct("<4sIII")
_MAGIC = b"OIM1"


def image_version() -> str:
    """The version of cached images: it changes with the preparation, the encoding and the decoder."""
    return fingerprint({"kind": "image", "format": 1, "colour": "rgb8", "exif": "applied", "opencv": cv2.__version__})


def encode_image(image: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) uint8 to bytes: magic, shape, pixels."""
    return _HEADER.pack(_MAGIC, *image.shape) + image.tobytes()


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """The inverse of ``encode_image``; a read-only view of ``data``.

    Raises:
        ValueError: The bytes are not a whole image.
    """
    if len(data) < _HEADER.size:
        raise ValueError(f"{len(data)} bytes, less than the header")
    magic, height, width, channels = _HEADER.unpack_from(data)
    if magic != _MAGIC or len(data) != _HEADER.size + height * width * channels:
        raise ValueError("bad magic or length")
    return np.frombuffer(data, np.uint8, offset=_HEADER.size).reshape(height, width, channels)


class ImageSource:
    """Reads images through a cache. The key covers path, size and modification time of the file.

    Args:
        cache: Opened for ``image_version()``.
    """

    def __init__(self, cache: CacheBackend | None = None) -> None:
        self.cache = cache if cache is not None and cache.enabled else None

    def read(self, path: Path) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, upright; as ``read_image``.

        Raises:
            ImageError: The file cannot be read.
        """
        if self.cache is None:
            return read_image(path)
        try:
            status = path.stat()
        except OSError as error:
            raise ImageError(f"{path}: cannot be read ({error.strerror})") from error
        key = fingerprint({"path": str(path.resolve()), "size": status.st_size, "mtime_ns": status.st_mtime_ns})
        if (data := self.cache.get(key)) is not None:
            return decode_image(data)
        image = read_image(path)
        self.cache.set(key, encode_image(image))
        return image
