"""Labels in another unit, scale or orientation: told with the cause; right ones are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocrsdk.data.folder import load_annotations
from ocrsdk.data.units import Extent, doubts

SIZES = [(1200, 1600), (1500, 2100), (1240, 1754), (1400, 1300)]


def pages(x: float, y: float) -> list[Extent]:
    """Text that reaches over so much of each page."""
    return [Extent(x * width, y * height, width, height) for width, height in SIZES]


def scaled(by: float) -> list[Extent]:
    return [page._replace(right=page.right * by, bottom=page.bottom * by) for page in pages(0.9, 0.95)]


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        ([Extent(88, 97.5, *size) for size in SIZES], "percent"),
        ([Extent(930, 985, *size) for size in SIZES], "thousandths"),
        (scaled(0.4), "smaller copies"),
        (scaled(2), "larger copies"),
        ([Extent(0.95 * height, 0.9 * width, width, height) for width, height in SIZES if width != 1400], "EXIF"),
    ],
)
def test_f79_another_unit_is_told_with_its_cause(found: list[Extent], cause: str):
    (doubt,) = doubts(found)
    assert cause in doubt


@pytest.mark.parametrize("found", [pages(0.9, 0.95), pages(0.6, 0.3), pages(1, 1), pages(0.9, 0.95)[:2], []])
def test_pixels_raise_no_doubt(found: list[Extent]):
    assert doubts(found) == []


def test_real_pages_raise_no_doubt(receipts: Path):
    for split in ("train", "val"):
        report = load_annotations(receipts / split, verify="header")[1]
        assert doubts(report.extents) == []
