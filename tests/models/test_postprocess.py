"""Post-processing against the original code's answers and an oracle's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ocrsdk.models.postprocess import PostProcessor, _corners, _mean_inside_quads
from ocrsdk.settings.sections import PostProcessSettings
from tests.conftest import GOLDEN, ragged

PAPER = {"threshold": 0.3, "box_threshold": 0.6, "unclip_ratio": 1.5}
MAPS = sorted(p.stem for p in (GOLDEN / "postprocess").glob("*.npz"))


def load(name: str) -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / "postprocess" / f"{name}.npz"))


def best_ious(found: list[np.ndarray], expected: list[np.ndarray]) -> np.ndarray:
    shapes = [shapely.Polygon(p).buffer(0) for p in found]
    best = []
    for p in expected:
        target = shapely.Polygon(p).buffer(0)
        best.append(max((s.intersection(target).area / s.union(target).area for s in shapes), default=0.0))
    return np.array(best)


@pytest.mark.parametrize("name", MAPS)
def test_quads_equal_the_oracle(name: str):
    golden = load(name)
    found = PostProcessor(PostProcessSettings(**PAPER))(golden["prob_map"].astype(np.float32))
    assert len(found) == len(golden["quads"])
    for polygon, score in zip(golden["quads_exact"], golden["quad_scores"], strict=True):
        nearest = min(found, key=lambda d: np.abs(d.polygon - polygon).max())
        np.testing.assert_allclose(nearest.polygon, polygon, atol=0.05)
        assert nearest.score == pytest.approx(float(score), abs=2e-3)


@pytest.mark.parametrize("name", MAPS)
def test_quads_are_near_the_original(name: str):
    golden = load(name)
    found = PostProcessor(PostProcessSettings(**PAPER))(golden["prob_map"].astype(np.float32))
    if len(found):
        ious = best_ious([d.polygon for d in found], list(golden["quads_32nd"]))
        assert np.median(ious) >= 0.93
        assert ious.min() >= 0.7


@pytest.mark.parametrize("ratio", [1.5, 2.0])
@pytest.mark.parametrize("name", MAPS)
def test_polygons_are_near_the_original(name: str, ratio: float):
    golden = load(name)
    key = f"{ratio * 10:.0f}"
    expected = ragged(golden[f"polygon_points_{key}"], golden[f"polygon_offsets_{key}"])
    found = PostProcessor(PostProcessSettings(shape="polygon", **PAPER | {"unclip_ratio": ratio}))(
        golden["prob_map"].astype(np.float32)
    )
    assert len(found) == len(expected)
    if expected:
        ious = best_ious([d.polygon for d in found], expected)
        assert np.median(ious) >= 0.93
        assert ious.min() >= 0.7


@given(
    st.tuples(st.floats(-20, 120), st.floats(-20, 90)),
    st.tuples(st.floats(0, 80), st.floats(0, 60)),
    st.floats(-90, 90),
    st.integers(0, 2**32 - 1),
)
def test_scores_are_means_over_the_pixels_that_opencv_fills(centre, sides, angle, seed):
    """On a canvas that holds the whole rectangle, of which only the map counts."""
    prob = np.random.default_rng(seed).random((70, 100), dtype=np.float32)
    quad = _corners(np.array([[*centre, *sides, angle]])).astype(np.int64)
    margin = 200
    canvas = np.zeros((70 + 2 * margin, 100 + 2 * margin), np.uint8)
    cv2.fillPoly(canvas, [(quad[0] + margin).astype(np.int32)], 1)
    inside = canvas[margin:-margin, margin:-margin].astype(bool)
    expected = prob[inside].mean(dtype=np.float64) if inside.any() else 0.0
    assert _mean_inside_quads(prob, quad)[0] == pytest.approx(expected, abs=1e-6)


@given(st.tuples(*[st.floats(-100, 100)] * 2), st.tuples(*[st.floats(1, 80)] * 2), st.floats(-180, 180))
def test_corners_are_those_of_opencv_clockwise_from_the_left(centre, sides, angle):
    found = _corners(np.array([[*centre, *sides, angle]]))[0]
    expected = cv2.boxPoints((centre, sides, angle))
    assert np.abs(found[:, None] - expected[None]).max(axis=2).min(axis=1).max() < 1e-3
    assert cv2.contourArea(found.astype(np.float32), oriented=True) > 0  # clockwise, as y grows downwards
    assert found[[0, 3], 0].max() <= found[[1, 2], 0].min() + 1e-9
    assert found[0, 1] <= found[3, 1]


def test_blank_map():
    assert PostProcessor()(np.zeros((64, 96), np.float32)) == []


def test_points_come_back_in_original_pixels():
    prob = np.zeros((100, 200), np.float32)
    prob[40:60, 50:150] = 0.9
    plain = PostProcessor()(prob)[0].polygon
    matrix = np.array([[0.5, 0, 3.0], [0, 0.5, -2.0], [0, 0, 1]])
    moved = PostProcessor()(prob, matrix, (400, 800))[0].polygon
    np.testing.assert_allclose(moved, (plain - (3, -2)) * 2, atol=1e-3)


def test_points_stay_on_the_page():
    prob = np.full((64, 64), 0.9, np.float32)
    polygon = PostProcessor()(prob)[0].polygon
    assert polygon.min() >= 0
    assert polygon.max() <= 64


def test_candidates_are_bounded():
    prob = np.zeros((200, 200), np.float32)
    for y in range(0, 200, 20):
        prob[y : y + 10, 5:190] = 0.9
    assert len(PostProcessor()(prob)) == 10
    assert len(PostProcessor(PostProcessSettings(max_candidates=4))(prob)) == 4


def test_corners_start_at_the_top_left_and_go_clockwise():
    prob = np.zeros((100, 200), np.float32)
    prob[40:60, 50:150] = 0.9
    top_left, top_right, bottom_right, bottom_left = PostProcessor()(prob)[0].polygon
    assert top_left[0] < top_right[0]
    assert top_left[1] < bottom_left[1]
    assert bottom_right[0] > bottom_left[0]
    assert bottom_right[1] > top_right[1]


def newspaper(rows: int, columns: int, specks: int = 0) -> np.ndarray:
    """A map with a word in every cell, and specks of four pixels below them."""
    page = np.zeros((rows * 12 + 4 * (specks // columns + 1), columns * 24), np.float32)
    for row in range(rows):
        for column in range(columns):
            page[row * 12 + 2 : row * 12 + 9, column * 24 + 2 : column * 24 + 20] = 0.9
    for speck in range(specks):
        y, x = rows * 12 + 4 * (speck // columns), 24 * (speck % columns)
        page[y : y + 3, x : x + 3] = 0.9
    return page


def test_f83_every_word_of_a_newspaper_page_is_found():
    assert len(PostProcessor()(newspaper(54, 31))) == 54 * 31


@pytest.mark.parametrize("shape", ["quad", "polygon"])
def test_f83_a_cut_leaves_out_the_smallest_and_is_told_once(shape: str):
    find = PostProcessor(PostProcessSettings(max_candidates=100, shape=shape))
    page = newspaper(10, 10, specks=60)
    everything = PostProcessor(PostProcessSettings(shape=shape))(newspaper(10, 10))
    with capture_logs() as logs:
        for _ in range(2):
            found = find(page)
            assert len(found) == 100
            for one, other in zip(found, everything, strict=True):
                np.testing.assert_array_equal(one.polygon, other.polygon)
    (told,) = logs
    assert "postprocess.max_candidates" in told["event"]
    assert (told["regions"], told["max_candidates"]) == (160, 100)
