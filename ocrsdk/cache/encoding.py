"""Named arrays to bytes and back, without pickle; numbers that were stored uncompressed are read without a copy.

::

    "OAR1"  u32 length of the JSON  JSON  zeros up to a multiple of 64  array  zeros  array ...
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import numpy as np

from ocrsdk.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ocrsdk.settings.sections import Codec

_MAGIC = b"OAR1"
_HEAD = struct.Struct("<4sI")
_ALIGN = 64
_KINDS = frozenset("biuf")


def encode_arrays(arrays: Mapping[str, NDArray[np.generic]], codec: Codec = "none") -> bytes:
    """Bytes that ``decode_arrays`` turns back into equal arrays.

    Args:
        arrays: Booleans, integers or floats, of any shape.
        codec: Compression of each array that it makes smaller.

    Raises:
        TypeError: An array holds anything but numbers.
    """
    entries, bodies, offset = [], [], 0
    for name, array in arrays.items():
        if array.dtype.kind not in _KINDS:
            raise TypeError(f"{name}: an array of {array.dtype} cannot be cached; only booleans, integers and floats can")
        raw = np.ascontiguousarray(array).data.cast("B") if array.size else b""
        body, used = raw, "none"
        if codec != "none" and len(raw) > _ALIGN:
            packed = _compress(raw, codec)
            if len(packed) < len(raw):
                body, used = packed, codec
        entries.append([name, array.dtype.str, list(array.shape), used, offset, len(body)])
        padding = -len(body) % _ALIGN
        bodies += [body, bytes(padding)]
        offset += len(body) + padding
    text = json.dumps(entries, separators=(",", ":")).encode()
    start = _HEAD.size + len(text)
    return b"".join((_HEAD.pack(_MAGIC, len(text)), text, bytes(-start % _ALIGN), *bodies))


def decode_arrays(data: bytes | memoryview) -> dict[str, NDArray[np.generic]]:
    """The arrays; read-only views of ``data`` where nothing was compressed.

    Raises:
        ValueError: The bytes are not what ``encode_arrays`` gives.
    """
    view = memoryview(data)
    if len(view) < _HEAD.size:
        raise ValueError(f"{len(view)} bytes, less than the header")
    magic, length = _HEAD.unpack_from(view)
    if magic != _MAGIC or len(view) < _HEAD.size + length:
        raise ValueError("bad magic or length")
    start = _HEAD.size + length
    start += -start % _ALIGN
    found = {}
    for name, dtype, shape, codec, offset, size in json.loads(bytes(view[_HEAD.size : _HEAD.size + length])):
        body = view[start + offset : start + offset + size]
        if len(body) != size:
            raise ValueError(f"{name}: cut short")
        raw = body if codec == "none" else _decompress(body, codec)
        found[name] = np.frombuffer(raw, dtype=np.dtype(dtype)).reshape(shape)
    return found


def check_codec(codec: Codec, setting: str) -> None:
    """Raise a ``SettingsError`` that names the package to install, if ``codec``, the value of ``setting``, is not available."""
    try:
        _compress(b"", codec)
    except ImportError as error:
        raise SettingsError(f"{setting}={codec} needs the package {error.name!r}. Try: pip install 'ocrsdk[compression]'") from None


def _compress(raw: bytes | memoryview, codec: str) -> bytes:
    if codec == "lz4":
        import lz4.frame

        return bytes(lz4.frame.compress(raw))
    if codec == "zstd":
        import zstandard

        return bytes(zstandard.ZstdCompressor(level=1).compress(raw))
    return bytes(raw)


def _decompress(body: memoryview, codec: str) -> bytes:
    if codec == "lz4":
        import lz4.frame

        return bytes(lz4.frame.decompress(body))
    if codec == "zstd":
        import zstandard

        return bytes(zstandard.ZstdDecompressor().decompress(body))
    raise ValueError(f"unknown codec {codec!r}")
