"""Do the labels of a folder look like pixels of its pages? A wrong unit loads, trains to the end, and finds nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    @property
    def is_beyond(self) -> bool:
        """Whether it reaches beyond the page by more than a pixel."""
        return self.right > self.width + 1 or self.bottom > self.height + 1

    @property
    def fits_turned(self) -> bool:
        """Whether the page turned by 90 degrees would hold it."""
        return self.right <= self.height + 1 and self.bottom <= self.width + 1


def doubts(pages: Sequence[Extent]) -> list[str]:
    """What labels look like, if not like pixels of their pages, with the likely cause; empty if nothing is odd.

    Args:
        pages: Those of a folder that hold text.
    """
    if len(pages) < _FEWEST:
        return []
    found = []
    farthest = max(max(page.right, page.bottom) for page in pages)
    smallest = min(min(page.width, page.height) for page in pages)
    shortest = min(max(page.width, page.height) for page in pages)
    share = max(max(page.right / page.width, page.bottom / page.height) for page in pages)
    if farthest <= _PERCENT and smallest >= 2 * _PERCENT:
        found.append(f"no coordinate is larger than {farthest:g}, on {len(pages)} larger pages: percent?")
    elif 0.9 * _MILLE < farthest <= _MILLE and shortest >= 1.2 * _MILLE:
        found.append(f"no coordinate is larger than {farthest:g}, on {len(pages)} larger pages: thousandths of the page's size?")
    elif share < _CORNER:
        found.append(f"all text of {len(pages)} pages lies within {share:.0%} of their size: made for smaller copies of them?")
    beyond = [page for page in pages if page.is_beyond]
    if 2 * len(beyond) > len(pages):
        turned = 2 * sum(page.fits_turned for page in beyond) > len(beyond)
        cause = "without their EXIF orientation, or with x and y exchanged?" if turned else "for larger copies of them?"
        found.append(f"text reaches beyond {len(beyond)} of {len(pages)} pages: made {cause}")
    return found
