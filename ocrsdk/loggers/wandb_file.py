"""Reads the rows of a ``.wandb`` file: the log that the W&B client writes for every run, online and offline.

The file is a LevelDB log: a header of 7 bytes, then blocks of 32 KiB with records of (CRC-32, length, type, data). A long record is
split over several of them; each whole one is a protobuf ``Record``.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

from ocrsdk.errors import LoggerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAGIC, _BLOCK = b":W&B\xe1\xbe", 32768
_HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows, in file order; ``_step`` is the client's step.

    A record that was cut short at the end of the file, as a killed process leaves it, ends the reading.

    Raises:
        LoggerError: The file is no ``.wandb`` file, or a record is damaged.
    """
    from wandb.proto import wandb_internal_pb2

    rows = []
    for data in _records(path):
        record = wandb_internal_pb2.Record.FromString(data)  # type: ignore[attr-defined]
        if record.WhichOneof("record_type") == "history":
            row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            row.setdefault("_step", record.history.step.num)
            rows.append(row)
    return rows


def _records(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    if content and content[: len(_MAGIC)] != _MAGIC:
        raise LoggerError(f"{path}: not a .wandb file")
    parts: list[bytes] = []
    position = 7
    while position + _HEADER.size <= len(content):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER.size:
            position += left
            continue
        checksum, length, kind = _HEADER.unpack_from(content, position)
        data = content[position + _HEADER.size : position + _HEADER.size + length]
        if (kind == 0 and length == 0) or len(data) < length:
            return
        if zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            raise LoggerError(f"{path}: a damaged record at byte {position}")
        position += _HEADER.size + length
        if kind in (_FULL, _FIRST):
            parts = []
        parts.append(data)
        if kind in (_FULL, _LAST):
            yield b"".join(parts)
