"""Do the labels of a folder look like pixels of its pages? A wrong unit loads, trains to the end, and finds nothing."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PERCENT, _MILLE = 100.5, 1000.5
"""The largest coordinates in percent, and in thousandths, of a page's size."""
_CORNER = 0.55
"""Text that reaches no farther, as a share of its page, on no page, was labelled on smaller copies."""
_FEWEST = 3
"""Fewer pages tell nothing."""


class Extent(NamedTuple):
    """How far the text of a page reaches, in pixels, and the page's size."""

    right: float
    bottom: float
    width: int
    height: int


class Extents(Sequence[Extent]):
    """``Extent`` of many pages, in 16 bytes each."""

    def __init__(self) -> None:
        self._values = array("f")

    def append(self, extent: Extent) -> None:
        """The next page."""
        self._values.extend(extent)

    def extend(self, other: Extents) -> None:
        """The pages of another one."""
        self._values.extend(other._values)

    def packed(self) -> str:
        """As text."""
        return base64.b64encode(self._values.tobytes()).decode()

    @classmethod
    def unpacked(cls, text: str) -> Extents:
        """What was packed."""
        found = cls()
        found._values.frombytes(base64.b64decode(text))
        return found

    def __len__(self) -> int:
        return len(self._values) // 4

    @overload
    def __getitem__(self, index: int) -> Extent: ...
    @overload
    def __getitem__(self, index: slice) -> list[Extent]: ...
    def __getitem__(self, index: int | slice) -> Extent | list[Extent]:
        """One page, or the list of those of a slice."""
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = 4 * range(len(self))[index]
        right, bottom, width, height = self._values[at : at + 4]
        return Extent(right, bottom, int(width), int(height))

    def __array__(self, dtype: object = None, copy: object = None) -> NDArray[np.float32]:
        return np.frombuffer(self._values, np.float32).reshape(-1, 4).copy()


def doubts(pages: Sequence[Extent]) -> list[str]:
    """What labels look like, if not like pixels of their pages, with the likely cause; empty if nothing is odd.

    Args:
        pages: Those of a folder that hold text.
    """
    if len(pages) < _FEWEST:
        return []
    found = []
    right, bottom, width, height = np.asarray(pages, np.float64).T
    farthest = max(right.max(), bottom.max())
    smallest, shortest = np.minimum(width, height).min(), np.maximum(width, height).min()
    share = max((right / width).max(), (bottom / height).max())
    if farthest <= _PERCENT and smallest >= 2 * _PERCENT:
        found.append(f"no coordinate is larger than {farthest:g}, on {len(pages)} larger pages: percent?")
    elif 0.9 * _MILLE < farthest <= _MILLE and shortest >= 1.2 * _MILLE:
        found.append(f"no coordinate is larger than {farthest:g}, on {len(pages)} larger pages: thousandths of the page's size?")
    elif share < _CORNER:
        found.append(f"all text of {len(pages)} pages lies within {share:.0%} of their size: made for smaller copies of them?")
    beyond = (right > width + 1) | (bottom > height + 1)
    if 2 * beyond.sum() > len(pages):
        turned = beyond & (right <= height + 1) & (bottom <= width + 1)
        cause = (
            "without their EXIF orientation, or with x and y exchanged?"
            if 2 * turned.sum() > beyond.sum()
            else "for larger copies of them?"
        )
        found.append(f"text reaches beyond {beyond.sum()} of {len(pages)} pages: made {cause}")
    return found
