"""Target maps against golden maps (original DB code, and an exact oracle), and by properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrsdk.data.targets import draw_targets
from ocrsdk.settings.sections import TargetSettings
from tests.conftest import GOLDEN, ragged

SCENES = sorted(p.stem for p in (GOLDEN / "target_maps").glob("*.npz"))


def load(scene: str) -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / "target_maps" / f"{scene}.npz"))


def draw(golden: dict[str, np.ndarray], distance: str, points: str = "points", ignore: str = "ignore"):
    height, width = golden["image_shape"]
    spec = TargetSettings(distance=distance, clamp=True)
    return draw_targets(ragged(golden[points], golden["offsets"]), golden[ignore], int(height), int(width), spec)


def test_all_scenes_are_there():
    assert len(SCENES) == 13


@pytest.mark.parametrize("scene", SCENES)
def test_masks_equal_the_original_code_in_every_pixel(scene: str):
    golden = load(scene)
    maps = draw(golden, "db")
    if (golden["shrink_pieces"] > 1).any():  # the original draws the first piece only
        drawn_more = maps.prob_map > golden["prob_map"]
        assert not (maps.prob_map < golden["prob_map"]).any()
        assert drawn_more.sum() < 400
    else:
        np.testing.assert_array_equal(maps.prob_map, golden["prob_map"])
    np.testing.assert_array_equal(maps.prob_mask, golden["prob_mask"])
    np.testing.assert_array_equal(maps.thresh_mask, golden["thresh_mask"])


@pytest.mark.parametrize("scene", [s for s in SCENES if not s.startswith("degenerate")])
def test_db_threshold_map_equals_the_original(scene: str):
    golden = load(scene)
    np.testing.assert_allclose(draw(golden, "db").thresh_map, golden["thresh_map_db"], atol=3e-6)


def test_db_threshold_map_of_degenerate_polygons():
    golden = load("degenerate_320")
    difference = np.abs(draw(golden, "db").thresh_map - golden["thresh_map_db"])
    assert (difference > 1e-5).sum() <= 3  # repeated vertices: the original leaves a hole of one pixel at each


@pytest.mark.parametrize("scene", SCENES)
def test_exact_threshold_map_equals_the_oracle(scene: str):
    golden = load(scene)
    maps = draw(golden, "exact")
    np.testing.assert_allclose(maps.thresh_map, golden["thresh_map_exact"], atol=3e-6)


@pytest.mark.parametrize("scene", SCENES)
def test_input_is_not_changed(scene: str):
    golden = load(scene)
    polygons = ragged(golden["points"].copy(), golden["offsets"])
    before, ignore = [p.copy() for p in polygons], golden["ignore"].copy()
    draw_targets(polygons, golden["ignore"], 200, 200, TargetSettings(clamp=True))
    for a, b in zip(polygons, before, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(golden["ignore"], ignore)


def test_page_without_text():
    maps = draw_targets([], np.zeros(0, bool), 48, 64)
    assert maps.prob_map.sum() == 0
    assert maps.prob_mask.all()
    assert maps.thresh_mask.sum() == 0
    np.testing.assert_allclose(maps.thresh_map, 0.3, atol=1e-7)


def test_ignored_text_is_masked_and_not_drawn():
    box = np.array([[10, 10], [50, 10], [50, 30], [10, 30]], np.float32)
    maps = draw_targets([box], [True], 64, 64)
    assert maps.prob_map.sum() == 0
    assert maps.prob_mask[10:31, 10:51].sum() == 0
    assert maps.prob_mask.sum() == 64 * 64 - 21 * 41


@pytest.mark.parametrize(("side", "kept"), [(7, False), (9, True)])
def test_text_under_the_minimum_size_is_ignored(side: int, kept: bool):
    box = np.array([[10, 10], [60, 10], [60, 10 + side], [10, 10 + side]], np.float32)
    maps = draw_targets([box], [False], 64, 80)
    assert bool(maps.prob_map.any()) is kept
    assert bool(maps.prob_mask.all()) is kept


def test_text_cut_by_the_page_to_less_than_the_minimum_is_ignored():
    box = np.array([[-40, 10], [5, 10], [5, 40], [-40, 40]], np.float32)
    maps = draw_targets([box], [False], 64, 64)
    assert not maps.prob_map.any()
    assert maps.prob_mask[20, 2] == 0


@st.composite
def quads(draw_from):
    number = lambda low, high: draw_from(st.floats(low, high, width=32))  # noqa: E731
    x, y, w, h = number(-20, 100), number(-20, 100), number(10, 80), number(10, 60)
    angle = number(-3, 3)
    c, s = np.cos(angle), np.sin(angle)
    box = np.array([[0, 0], [w, 0], [w, h], [0, h]]) @ np.array([[c, s], [-s, c]])
    return (box + (x, y)).astype(np.float32)


def slow_exact(polygon: np.ndarray, height: int, width: int, ratio: float) -> np.ndarray:
    """The definition, in float64, pixel by pixel over the whole page."""
    p = polygon.astype(np.float64)
    q = np.roll(p, -1, axis=0)
    area = abs((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum()) / 2
    d = area * (1 - ratio**2) / np.hypot(*(q - p).T).sum()
    ys, xs = np.mgrid[:height, :width]
    pixels = np.stack([xs, ys], -1)[:, :, None].astype(np.float64)
    edge = q - p
    t = np.clip(((pixels - p) * edge).sum(-1) / (edge**2).sum(-1), 0, 1)
    distance = np.linalg.norm(pixels - (p + t[..., None] * edge), axis=-1).min(-1)
    return 0.3 + 0.4 * (1 - np.minimum(distance / d, 1))


@settings(max_examples=60, deadline=None)
@given(quad=quads())
def test_exact_map_is_the_definition(quad: np.ndarray):
    maps = draw_targets([quad], [False], 90, 110, TargetSettings(min_text_size=0))
    if maps.prob_map.any():
        np.testing.assert_allclose(maps.thresh_map, slow_exact(quad, 90, 110, 0.4), atol=5e-6)


@settings(max_examples=40, deadline=None)
@given(quad=quads())
def test_winding_and_start_do_not_matter(quad: np.ndarray):
    whole = (quad * 4).round() / 4
    a = draw_targets([whole], [False], 90, 110)
    for other in (whole[::-1], np.roll(whole, 2, axis=0)):
        b = draw_targets([other], [False], 90, 110)
        np.testing.assert_allclose(a.thresh_map, b.thresh_map, atol=2e-6)
        np.testing.assert_array_equal(a.prob_mask, b.prob_mask)
