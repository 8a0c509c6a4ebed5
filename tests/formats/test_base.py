"""What becomes of points, texts and boxes, whatever the format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsdk.formats.base import LabelledPage, number_text, outline, plain_number
from ocrsdk.formats.files import LabelFile


@pytest.mark.parametrize(
    ("points", "error"),
    [
        ([0, 0, 9, 0], "4 coordinates, expected an even number from 6 on"),
        ([0, 0, 9, 0, 9], "5 coordinates"),
        ([[0, 0], [9, 0], [9]], "corner .9. is no pair"),
        ([[0, 0], [9, 0], 9], "corner 9 is no pair"),
        ([0, 0, 9, 0, 9, "9"], "coordinate '9' is not a number"),
        ([0, 0, 9, 0, 9, True], "coordinate True is not a number"),
        ([0, 0, 9, 0, 9, None], "coordinate nothing is not a number"),
        ([0, 0, 9, 0, 9, float("nan")], "coordinate nan is not finite"),
        ([0, 0, 9, 0, 9, float("-inf")], "coordinate -inf is not finite"),
        ([0, 0, 9, 0, 9, 1e308], "beyond any page"),
        ([0, 0, 9, 0, 9, 10**5000], "beyond any page"),
        ("0 0 9 0 9 9", "where corners were expected"),
        (None, "nothing where corners were expected"),
        ({}, "where corners were expected"),
        ([], "0 coordinates"),
    ],
)
def test_points_that_are_no_outline(points: object, error: str):
    with pytest.raises(ValueError, match=error):
        outline(points)


def test_pairs_and_flat_lists_are_the_same():
    np.testing.assert_array_equal(outline([0, 0.5, 9, 0, 9, 9]), outline([[0, 0.5], (9, 0), [9, 9]]))


@given(st.floats(-1e6, 1e6, width=32))
def test_numbers_are_written_as_they_are_read(value: float):
    assert np.float32(number_text(value)) == np.float32(value)
    assert np.float32(plain_number(value)) == np.float32(value)
    assert "e" not in number_text(value)


def test_a_bad_region_costs_that_region_alone(tmp_path: Path):
    page = LabelledPage(LabelFile(tmp_path / "x.json"))
    square = [0, 0, 9, 0, 9, 9, 0, 9]
    items = [{"p": square}, {"q": square}, {"p": [0, 0, 9, 9, 9, 0, 0, 9]}, 7, {"p": square[:5]}, {"p": square, "t": 3}]
    page.add_all(items, lambda item: (item["p"], item.get("t", ""), False), ())
    page.check_shapes()
    assert page.places == [(0,)]
    assert {(fault.where[0], fault.kind) for fault in page.faults if isinstance(fault.where, tuple)} == {
        (1, "syntax"), (2, "shape"), (3, "syntax"), (4, "coordinates"), (5, "text"),
    }  # fmt: skip
