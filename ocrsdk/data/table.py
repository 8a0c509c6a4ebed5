"""Annotated pages as a few arrays: a million cost some hundred bytes each, and loader processes share them.

Arrays that lie in files are mapped, not read, so that every process sees the same memory.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ocrsdk.types import Annotation, TextInstance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

_COLUMNS = {
    "paths": np.uint8, "path_ends": np.int64, "states": np.int64, "region_ends": np.int64, "digests": np.uint64,
    "points": np.float32, "point_ends": np.int64, "ignore": np.bool_, "texts": np.uint8, "text_ends": np.int64,
}  # fmt: skip


class PageTable(Sequence[Annotation]):
    """Annotated pages; an ``Annotation`` is made when it is asked for.

    Args:
        arrays: As ``TableBuilder`` makes them: ``paths``, ``states``, ``points`` and so on.
        folder: Where they lie as files, if they do: another process then maps them, too.
    """

    def __init__(self, arrays: Arrays, folder: Path | None = None) -> None:
        self.arrays, self._folder = arrays, folder
        self._file = _inode(folder) if folder is not None else None

    @classmethod
    def of(cls, annotations: Iterable[Annotation]) -> PageTable:
        """A table of pages."""
        builder = TableBuilder()
        for annotation in annotations:
            builder.add(annotation)
        return builder.table()

    @classmethod
    def mapped(cls, folder: Path, file: int | None = None) -> PageTable:
        """The table that was saved in ``folder``.

        Args:
            folder: Where the arrays lie.
            file: The inode of the file of points, if it has to be a certain one.

        Raises:
            OSError: A file cannot be read.
            ValueError: A file is damaged, or another table lies there by now.
        """
        if file is not None and _inode(folder) != file:
            raise ValueError(f"{folder}: the pages that were kept there have been replaced; start again")
        arrays: dict[str, NDArray[Any]] = {}
        for name, dtype in _COLUMNS.items():
            found = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            if found.dtype != dtype:
                raise ValueError(f"{folder / name}.npy: {found.dtype} where {np.dtype(dtype)} was expected")
            arrays[name] = found.view(np.ndarray)  # a memmap is slow to take parts of
        table = cls(arrays, folder)
        sizes = {name: len(values) for name, values in arrays.items()}
        pages, regions = len(table), sizes["ignore"]
        ends = [("path_ends", "paths"), ("point_ends", "points"), ("text_ends", "texts"), ("region_ends", "ignore")]
        if any(int(arrays[end][-1]) != sizes[of] for end, of in ends) or not (
            sizes["states"] == sizes["digests"] == pages == sizes["region_ends"] - 1
            and sizes["point_ends"] == sizes["text_ends"] == regions + 1
        ):
            raise ValueError(f"{folder}: its files do not fit together")
        return table

    def save(self, folder: Path) -> None:
        """Write the arrays as files into ``folder``, which exists.

        Raises:
            OSError: They cannot be written.
        """
        for name, values in self.arrays.items():
            with (folder / f"{name}.npy").open("xb") as file:
                np.save(file, values, allow_pickle=False)

    def __len__(self) -> int:
        return len(self.arrays["path_ends"]) - 1

    @overload
    def __getitem__(self, index: int) -> Annotation: ...
    @overload
    def __getitem__(self, index: slice) -> list[Annotation]: ...
    def __getitem__(self, index: int | slice) -> Annotation | list[Annotation]:
        """One page, or the list of those of a slice."""
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        first, last = (int(end) for end in self.arrays["region_ends"][at : at + 2])
        points, ignore = self.arrays["points"], self.arrays["ignore"][first:last].tolist()
        ends = self.arrays["point_ends"][first : last + 1].tolist()
        text_ends = self.arrays["text_ends"][first : last + 1].tolist()
        texts = self.arrays["texts"][text_ends[0] : text_ends[-1]].tobytes()
        instances = []
        for number in range(last - first):
            text = texts[text_ends[number] - text_ends[0] : text_ends[number + 1] - text_ends[0]]
            polygon = points[ends[number] : ends[number + 1]]
            instances.append(TextInstance(polygon, text.decode("utf-8", "surrogatepass"), ignore[number]))
        state = int(self.arrays["states"][at])
        return Annotation(self.image(at), tuple(instances), state, f"{int(self.arrays['digests'][at]):016x}")

    def image(self, index: int) -> Path:
        """The image file of a page."""
        start, end = (int(end) for end in self.arrays["path_ends"][index : index + 2])
        return Path(os.fsdecode(self.arrays["paths"][start:end].tobytes()))

    def named(self, some: range) -> Iterator[tuple[str, str]]:
        """Image and digest of some pages, which are not made for it."""
        ends = self.arrays["path_ends"][some.start : some.stop + 1].tolist()
        digests = self.arrays["digests"][some.start : some.stop].tolist()
        paths = self.arrays["paths"][ends[0] : ends[-1]].tobytes()
        for (start, end), digest in zip(pairwise(ends), digests, strict=True):
            yield os.fsdecode(paths[start - ends[0] : end - ends[0]]), f"{digest:016x}"

    def __reduce__(self) -> tuple[Callable[..., PageTable], tuple[object, ...]]:
        """To another process goes the folder, if there is one, else all of it."""
        if self._folder is not None:
            return PageTable.mapped, (self._folder, self._file)
        return PageTable, (self.arrays,)


def _inode(folder: Path) -> int:
    return (folder / "points.npy").stat().st_ino


class TableBuilder:
    """Collects pages."""

    def __init__(self) -> None:
        self._bytes = {name: bytearray() for name in ("paths", "points", "texts")}
        self._numbers = {name: array("q") for name in ("path_ends", "states", "region_ends", "point_ends", "text_ends")}
        self._digests, self._ignore = array("Q"), bytearray()
        for name in ("path_ends", "region_ends", "point_ends", "text_ends"):
            self._numbers[name].append(0)

    def __len__(self) -> int:
        return len(self._digests)

    def add(self, annotation: Annotation) -> None:
        """The next page."""
        data, numbers = self._bytes, self._numbers
        data["paths"] += os.fsencode(annotation.image)
        numbers["path_ends"].append(len(data["paths"]))
        numbers["states"].append(annotation.state)
        points, texts, point_ends, text_ends = data["points"], data["texts"], numbers["point_ends"], numbers["text_ends"]
        for instance in annotation.instances:
            points += instance.polygon.astype(np.float32, copy=False).tobytes()
            point_ends.append(len(points) // 8)
            texts += instance.text.encode("utf-8", "surrogatepass")
            text_ends.append(len(texts))
            self._ignore.append(bool(instance.ignore))
        numbers["region_ends"].append(len(self._ignore))
        self._digests.append(int(annotation.digest, 16))

    def extend(self, table: PageTable) -> None:
        """The pages of a table, at the end."""
        for name, values in table.arrays.items():
            if name.endswith("_ends"):
                mine = self._numbers[name]
                mine.frombytes((values[1:] + mine[-1]).astype(np.int64).tobytes())
            elif name in self._bytes:
                self._bytes[name] += values.tobytes()
            elif name == "ignore":
                self._ignore += values.tobytes()
            else:
                (self._digests if name == "digests" else self._numbers[name]).frombytes(values.tobytes())

    def table(self) -> PageTable:
        """All that was collected; the builder is not used any more."""
        arrays: dict[str, NDArray[Any]] = {name: np.frombuffer(values, _COLUMNS[name]) for name, values in self._numbers.items()}
        arrays |= {name: np.frombuffer(values, _COLUMNS[name]) for name, values in self._bytes.items()}
        arrays["points"] = arrays["points"].reshape(-1, 2)
        arrays |= {"ignore": np.frombuffer(self._ignore, np.bool_), "digests": np.frombuffer(self._digests, np.uint64)}
        for values in arrays.values():
            values.flags.writeable = False
        return PageTable(arrays)


class JoinedPages(Sequence[Annotation]):
    """Several sets of pages, one behind the other.

    Args:
        parts: The sets.
    """

    def __init__(self, parts: Sequence[Sequence[Annotation]]) -> None:
        self.parts = tuple(parts)
        self._ends = list(accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Annotation: ...
    @overload
    def __getitem__(self, index: slice) -> list[Annotation]: ...
    def __getitem__(self, index: int | slice) -> Annotation | list[Annotation]:
        """One page, or the list of those of a slice."""
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        part = bisect_right(self._ends, at)
        return self.parts[part][at - (self._ends[part - 1] if part else 0)]
