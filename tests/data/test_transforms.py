"""Geometry is one matrix and one warp: points and pixels must agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrsdk.data.transforms import FILL, EvalTransform, TrainTransform, scaling, warp
from ocrsdk.geometry import apply_matrix
from ocrsdk.settings.sections import AugmentSettings


def spots(height: int = 240, width: int = 320) -> tuple[np.ndarray, np.ndarray]:
    """A grey page with three white Gaussian spots, and their centres."""
    centres = np.array([[60.0, 50.0], [250.0, 80.0], [140.0, 180.0]])
    ys, xs = np.mgrid[:height, :width]
    page = np.full((height, width), 100.0)
    for x, y in centres:
        page += 150 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * 5.0**2))
    return np.repeat(page.clip(0, 255).astype(np.uint8)[..., None], 3, 2), centres


def brightest(image: np.ndarray, near: np.ndarray, radius: int = 14) -> np.ndarray:
    """Centre of mass of what is bright near a point."""
    x, y = np.round(near).astype(int)
    part = image[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1, 0].astype(float)
    part = np.maximum(part - 130, 0)
    ys, xs = np.mgrid[: part.shape[0], : part.shape[1]]
    return np.array([(xs * part).sum() / part.sum() + max(x - radius, 0), (ys * part).sum() / part.sum() + max(y - radius, 0)])


def well_inside(points: np.ndarray, shape: tuple[int, ...], margin: int = 25) -> np.ndarray:
    return ((points > margin) & (points < np.array([shape[1], shape[0]]) - margin)).all(axis=1)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), flip=st.sampled_from([0.0, 1.0]))
def test_points_follow_the_pixels_in_training_views(seed: int, flip: float):
    image, centres = spots()
    transform = TrainTransform(
        256, AugmentSettings(rotate=25, flip=flip, jitter=0, scale_min=0.8, scale_max=1.3), EvalTransform(240)
    )
    view, matrix = transform(image, [], np.random.default_rng(seed))
    assert view.shape == (256, 256, 3)
    moved = apply_matrix(centres, matrix)
    for point in moved[well_inside(moved, view.shape)]:
        np.testing.assert_allclose(brightest(view, point), point, atol=0.6)


@pytest.mark.parametrize("side", [96, 240, 480])
def test_points_follow_the_pixels_in_evaluated_pages(side: int):
    image, centres = spots()
    page, matrix = EvalTransform(side)(image)
    assert min(page.shape[:2]) >= side
    assert page.shape[0] % 32 == page.shape[1] % 32 == 0
    moved = apply_matrix(centres, matrix)
    for point in moved:
        np.testing.assert_allclose(brightest(page, point, radius=round(14 * side / 240)), point, atol=0.6)
    if side == 240:
        np.testing.assert_array_equal(page[:240, :320], image)


def test_the_longer_side_is_bounded():
    page, matrix = EvalTransform(736, max_side=1024)(np.zeros((3000, 300, 3), np.uint8))
    assert page.shape[0] == 1024
    assert matrix[1, 1] == pytest.approx(1024 / 3000)
    assert matrix[0, 0] == pytest.approx(102 / 300)  # whole pixels, and the matrix says so


def test_padding_has_the_fill_colour():
    page, _ = EvalTransform(100)(np.zeros((100, 140, 3), np.uint8))
    assert page.shape == (128, 160, 3)
    assert tuple(page[120, 150]) == FILL


def test_shrinking_averages_instead_of_skipping():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    small = warp(stripes, scaling(1 / 8), 64, 64)
    assert np.abs(small[4:-4, 4:-4].astype(int) - 127).max() <= 2


def test_a_view_depends_on_its_random_numbers_alone():
    image, _ = spots()
    transform = TrainTransform(crop=128)
    box = [np.array([[50, 40], [70, 40], [70, 60], [50, 60]], np.float32)]
    a, b, c = (transform(image, box, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])
    assert not np.array_equal(a[1], c[1])


def test_colour_jitter_changes_no_geometry_and_can_be_off():
    image, _ = spots()
    on, off = (TrainTransform(128, AugmentSettings(jitter=j))(image, [], np.random.default_rng(3)) for j in (0.3, 0.0))
    np.testing.assert_array_equal(on[1], off[1])
    assert np.abs(on[0].astype(int) - off[0]).mean() > 2
