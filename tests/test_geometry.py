"""Polygons and matrices against OpenCV, shapely and one another."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrsdk import geometry
from ocrsdk.data.transforms import horizontal_flip, rotation, scaling, translation
from ocrsdk.geometry import apply_matrix, apply_matrix_to_all


def test_matrices_against_opencv():
    points = np.array([[3.0, 5.0], [10.0, -2.0]])
    ours = apply_matrix(points, translation(4, 7) @ rotation(30))
    theirs = cv2.transform(points[None], cv2.getRotationMatrix2D((0, 0), -30, 1))[0] + (4, 7)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(apply_matrix([[0, 0], [99, 0]], horizontal_flip(100)), [[99, 0], [0, 0]], atol=1e-5)


@given(st.lists(st.integers(3, 9), max_size=6), st.integers(0, 2**32 - 1))
def test_many_polygons_at_once_are_moved_like_each_alone(sizes: list[int], seed: int):
    rng = np.random.default_rng(seed)
    polygons = [rng.uniform(-50, 900, (size, 2)).astype(np.float32) for size in sizes]
    matrix = rotation(rng.uniform(-180, 180)) @ scaling(rng.uniform(0.2, 3))
    found = apply_matrix_to_all(polygons, matrix)
    assert len(found) == len(polygons)
    for one, polygon in zip(found, polygons, strict=True):
        np.testing.assert_allclose(one, apply_matrix(polygon, matrix), rtol=1e-6, atol=1e-4)


points = st.tuples(st.integers(0, 60), st.integers(0, 60))

polygons = st.lists(points, min_size=3, max_size=7, unique=True)


@settings(max_examples=400, deadline=None)
@given(a=polygons, b=polygons)
def test_overlap_and_validity_agree_with_shapely(a: list, b: list):
    one, two = shapely.Polygon(a), shapely.Polygon(b)
    common, area_a, _area_b, valid_a, valid_b = geometry.overlaps(*geometry.pack([a]), *geometry.pack([b]))
    assert bool(valid_a[0]) == (one.is_valid and one.area > 0)
    assert bool(valid_b[0]) == (two.is_valid and two.area > 0)
    if valid_a[0] and valid_b[0]:
        assert area_a[0] == pytest.approx(one.area)
        assert common[0, 0] == pytest.approx(one.intersection(two).area, abs=1e-6)
