"""``CachedDataset``: any map-style dataset, with its items kept."""

from __future__ import annotations

import hashlib
import inspect
import os
import random
import re
import time
import uuid
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from torch.utils.data import Dataset

from ocrsdk.cache.base import OWN
from ocrsdk.cache.encoding import check_codec
from ocrsdk.cache.frame import SCHEMA
from ocrsdk.cache.keys import EntryKey
from ocrsdk.cache.make import open_cache, package_of, prepare
from ocrsdk.cache.values import class_table, decode_value, encode_value
from ocrsdk.errors import CacheError
from ocrsdk.fingerprint import canonical_json, differences
from ocrsdk.settings.sections import CacheSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ocrsdk.cache.base import CacheBackend
    from ocrsdk.cache.stats import Counts
    from ocrsdk.settings.sections import Codec

T = TypeVar("T", covariant=True)


_STATE = ("size", "mtime_ns", "content")
"""What tells states of one source apart, in ``file_identity`` and ``content_identity``."""


class MapStyle(Protocol[T]):
    """What is wrapped: anything that has a length and items by index."""

    def __getitem__(self, index: int, /) -> T:
        """The item at ``index``."""

    def __len__(self) -> int:
        """The number of items."""


@dataclass(frozen=True)
class ItemExplanation:
    """Whether an item is a hit, and why not."""

    hit: bool
    reason: str
    changed: list[str] = field(default_factory=list)
    """``name: old -> new`` for what differs from the item that was kept last for the same source."""


@dataclass(frozen=True)
class Remade:
    """What ``CachedDataset.validate`` found."""

    compared: int
    """Items that were kept, made again, and compared byte for byte."""
    different: list[int]
    """Indices of those that differ: the manifest or the identity leaves something out."""


class CachedDataset(Dataset[Any], Generic[T]):
    """Keeps the items of ``dataset`` and hands them out again while nothing has changed that they depend on.

    What an item depends on is stated twice. The **manifest** says how items are made: sizes, options, a version number of yours; a
    change of it is another version of the cache, with its own place. The **identity** says what one item is made from: a file
    (``file_identity``), an array (``content_identity``), a row of a table; if it changes, that item is made again. With ``code``
    the source text of the preparing functions belongs to the manifest as well. Wrap what is deterministic, and augment afterwards.

    Items are trees of numbers, texts, NumPy arrays, tensors, lists, tuples, dicts and dataclasses (``cache.values``); what a
    hit hands out is a copy of one's own. Loader workers share the cache, by fork or by pickle. A cache that fails costs the cache,
    never the item: it is made from its source, and the failure is told once and counted.

    Args:
        dataset: ``dataset[i]`` and ``len(dataset)``.
        name: Of these items, for ``ocrsdk cache status``: lower case, digits, dashes.
        manifest: How items are made; JSON-ready.
        identity: Index -> what the item is made from: a text, or a JSON-ready mapping.
        code: Functions or classes whose source text is part of the manifest.
        types: Dataclasses and named tuples that items may hold.
        backend: A registered cache backend.
        folder: Folder of all caches; that of the settings by default.
        budget: Most bytes of a version, as a number or as ``"10GB"``; when it is full, further items are not kept.
        options: Options of the backend.
        compress: ``none``, ``lz4`` or ``zstd``.
        session: Under which look-ups are counted; by default one of its own for each object.

    Raises:
        PluginError: There is no such backend.
        SettingsError: An option is wrong.
        CacheError: The name or the manifest cannot be used, or the cache can never work there.
    """

    def __init__(
        self,
        dataset: MapStyle[T],
        *,
        name: str,
        manifest: Mapping[str, object],
        identity: Callable[[int], str | Mapping[str, object]],
        code: Sequence[object] = (),
        types: Sequence[type] = (),
        backend: str = "diskcache",
        folder: Path | str | None = None,
        budget: int | str = "10GB",
        options: Mapping[str, object] | None = None,
        compress: Codec = "none",
        session: str | None = None,
    ) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) or name == OWN:
            raise CacheError(f"name={name!r}: use lower case, digits and dashes, and not {OWN!r}, which is ocrsdk's own")
        given = CacheSettings.model_validate({"budget": budget, **({"dir": folder} if folder is not None else {})})
        check_codec(compress, "compress")
        self.dataset, self.identity, self.name = dataset, identity, name
        self._types, self._codec = class_table(types), compress
        document = {
            "owner": name,
            "manifest": dict(manifest),
            "code": [f"{_name_of(part)} {code_fingerprint(part)}" for part in code],
            "types": {name: _shape_of(cls) for name, cls in sorted(self._types.items())},
            "encoding": {"schema": SCHEMA, "format": 1, "codec": compress},
            **package_of(backend),
        }
        try:
            canonical_json(document)
        except (TypeError, ValueError) as error:
            raise CacheError(f"manifest: is not JSON-ready ({error}); use texts, numbers, lists and dicts") from None
        self._cache = open_cache(
            document,
            backend=backend,
            folder=given.dir,
            budget=int(given.budget),
            options=options or {},
            session=session or f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}",
        )
        prepare(self._cache)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> T:
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        index %= len(self)
        if not self._cache.enabled:
            return self.dataset[index]
        key = self._key(index)
        if (kept := self._cache.get(key).value) is not None:
            return cast("T", decode_value(kept, self._types))
        item = self.dataset[index]
        encoded = encode_value(item, self._types, self._codec)
        if self._key(index).digest == key.digest:  # else its source was changed while it was read
            self._cache.set(key, encoded)
        return item

    def _key(self, index: int) -> EntryKey:
        found = self.identity(index)
        source = {"text": found} if isinstance(found, str) else dict(found)
        if "path" in source:  # several items may be made from one file
            origin = canonical_json({name: value for name, value in source.items() if name not in _STATE})
        else:
            origin = found if isinstance(found, str) else str(index)
        return EntryKey(f"{self.name} {origin}", {"kind": self.name, "source": source})

    @property
    def version(self) -> str:
        """Fingerprint of the manifest, 16 hex digits."""
        return self._cache.backend.location.version

    @property
    def backend(self) -> CacheBackend:
        """Where items are kept: its ``usage()``, ``versions()``, ``health()``, ``clear()``."""
        return self._cache.backend

    def counts(self) -> Counts:
        """Hits, misses by reason, writes and errors of this object, over all loader processes."""
        return self._cache.counts()

    def explain(self, index: int) -> ItemExplanation:
        """Whether the item is a hit; if not, what changed since it was kept.

        Raises:
            CacheError: The cache cannot be read.
        """
        key = self._key(index)
        if self.backend.get(key.digest) is not None:
            return ItemExplanation(True, "kept")
        before = self._cache.last_parts(key)
        if before is not None:
            changed = differences(before, key.parts)
            return ItemExplanation(
                False,
                "changed since it was kept" if changed else "was made, but is not kept: beyond the budget, or removed",
                changed,
            )
        mine = self.backend.location
        for info in self.backend.versions():
            if info.version != mine.version and info.manifest.get("owner") == self.name:
                changed = differences(info.manifest, mine.manifest)
                return ItemExplanation(False, f"not seen in this version; version {info.version} differs in its manifest", changed)
        return ItemExplanation(False, "not seen before")

    def validate(self, sample: int | None = 100) -> Remade:
        """Make kept items again and compare the bytes: a proof that manifest and identity leave nothing out.

        Args:
            sample: So many, chosen at random; None for all.
        """
        indices = list(range(len(self)))
        chosen = indices if sample is None or sample >= len(indices) else random.sample(indices, sample)
        compared, different = 0, []
        for index in chosen:
            kept = self._cache.get(self._key(index)).value
            if kept is not None:
                before = bytes(kept)
                compared += 1
                if before != encode_value(self.dataset[index], self._types, self._codec):
                    different.append(index)
        return Remade(compared, sorted(different))

    def close(self) -> None:
        """Close files and connections; a later item opens them again. ``with`` calls this at its end."""
        self._cache.close()

    def __enter__(self) -> CachedDataset[T]:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def file_identity(path: Path | str) -> dict[str, object]:
    """What tells one state of a file from another without reading it: path, size and modification time.

    Args:
        path: The file.

    Raises:
        OSError: There is no such file.
    """
    status = os.stat(path)  # noqa: PTH116 - for every item
    return {"path": os.path.abspath(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}  # noqa: PTH100


def content_identity(*parts: NDArray[np.generic] | bytes | str) -> dict[str, str]:
    """The SHA-256 of arrays, bytes and texts: for what has no file, or whose file moves.

    Args:
        parts: Of arrays, dtype and shape count as well.

    Raises:
        TypeError: A part is something else.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes | str):
            body = part.encode() if isinstance(part, str) else part
            head = f"{type(part).__name__} {len(body)}\n"
        else:
            import numpy as np

            array = np.ascontiguousarray(part)
            if array.dtype.kind not in "biufcSU":
                raise TypeError(f"content_identity: {part!r} is no array of numbers or texts; give bytes, a text or an array")
            body, head = array.tobytes(), f"{array.dtype.str} {array.shape}\n"
        digest.update(head.encode() + body)
    return {"content": digest.hexdigest()}


def code_fingerprint(part: Any) -> str:
    """16 hex digits of the source text of a function or class; what it calls is not included.

    Raises:
        CacheError: Its source is not there.
    """
    try:
        text = inspect.getsource(part)
    except (OSError, TypeError):
        raise CacheError(f"code: the source of {part!r} is not there; state a version of it in the manifest instead") from None
    return hashlib.sha256(inspect.cleandoc(text).encode()).hexdigest()[:16]


def _shape_of(cls: type) -> list[str]:
    """Names and types of the fields of a dataclass or named tuple."""
    if is_dataclass(cls):
        return [f"{item.name}: {item.type}" for item in fields(cls)]
    return [f"{name}: {cls.__annotations__.get(name, '')}" for name in getattr(cls, "_fields", ())]


def _name_of(part: Any) -> str:
    return f"{getattr(part, '__module__', '?')}.{getattr(part, '__qualname__', repr(part))}"
