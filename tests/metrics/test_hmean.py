"""hmean against golden cases, and by properties."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ocrsdk import geometry
from ocrsdk.metrics.hmean import HmeanMetric
from tests.conftest import GOLDEN

DATA = json.loads((GOLDEN / "eval_icdar" / "cases.json").read_text())

CASES = DATA["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['id']}-{c['kind']}")
def test_each_case(case: dict):
    score = HmeanMetric().update(case["gt"], case["ignore"], case["det"])
    assert (score.matched, score.gt_cared, score.det_cared) == (case["matched"], case["gt_cared"], case["det_cared"])
    for ratio in ("precision", "recall", "hmean"):
        assert getattr(score, ratio) == pytest.approx(case[ratio], abs=1e-12)
    if case["kind"] != "invalid":  # there the reference's indices are those of the polygons that it kept
        assert [list(p) for p in score.pairs] == case["pairs"]
        assert list(score.det_ignored) == case["det_ignored"]


def test_aggregate():
    metric = HmeanMetric()
    for case in CASES:
        metric.update(case["gt"], case["ignore"], case["det"])
    total = metric.compute().as_dict()
    for key, value in DATA["aggregate"]["all"].items():
        assert total[key] == pytest.approx(value, abs=1e-12)


def test_invalid_polygons_are_counted_apart():
    bow_tie = [[0, 0], [10, 10], [10, 0], [0, 10]]
    flat = [[0, 0], [10, 0], [20, 0], [5, 0]]
    score = HmeanMetric().update([bow_tie], [False], [flat, flat])
    assert (score.invalid_gt, score.invalid_det, score.gt_cared, score.det_cared) == (1, 2, 0, 0)


def test_reset_forgets():
    metric = HmeanMetric()
    metric.update([[[0, 0], [9, 0], [9, 9], [0, 9]]], [False], [])
    metric.reset()
    assert metric.compute().images == 0


def test_wrong_number_of_flags():
    with pytest.raises(ValueError, match="1 ground-truth polygons, but 2 ignore flags"):
        HmeanMetric().update([[[0, 0], [9, 0], [9, 9], [0, 9]]], [False, True], [])


points = st.tuples(st.integers(0, 60), st.integers(0, 60))

polygons = st.lists(points, min_size=3, max_size=7, unique=True)


@settings(max_examples=60, deadline=None)
@given(shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)), case=st.sampled_from(CASES[:150]))
def test_moving_everything_changes_nothing(shift: tuple[float, float], case: dict):
    if case["margin"] is not None and case["margin"] < 1e-6:
        return
    move = lambda polygons: [np.asarray(p) + shift for p in polygons]  # noqa: E731
    score = HmeanMetric().update(move(case["gt"]), case["ignore"], move(case["det"]))
    assert (score.matched, score.gt_cared, score.det_cared) == (case["matched"], case["gt_cared"], case["det_cared"])


def test_perfect_detections_score_one():
    metric = HmeanMetric()
    for case in CASES:
        if case["kind"] == "random":
            cared = [p for p, skip in zip(case["gt"], case["ignore"], strict=True) if not skip]
            metric.update(case["gt"], case["ignore"], cared)
    assert metric.compute().recall >= 0.995  # overlapping ground truth may be matched crosswise


@given(st.lists(st.tuples(*[st.integers(0, 40)] * 4), max_size=12), st.lists(st.tuples(*[st.integers(0, 40)] * 4), max_size=12))
def test_straight_boxes_are_judged_as_the_same_polygons_turned_a_little(first: list, second: list):
    """The short way for level boxes against the clipper's: an extra corner on a side makes a polygon of the box."""

    def boxes(sides: list) -> list[np.ndarray]:
        return [np.array([[a, b], [a + c + 1, b], [a + c + 1, b + d + 1], [a, b + d + 1]], np.float64) for a, b, c, d in sides]

    def with_corner(box: np.ndarray) -> np.ndarray:
        return np.insert(box, 1, (box[0] + box[1]) / 2, axis=0)

    truth, found = boxes(first), boxes(second)
    common, area_g, area_d, _, _ = geometry.overlaps(*geometry.pack(truth), *geometry.pack(found))
    union = area_g[:, None] + area_d - common
    assume(not np.isclose(common / union, 0.5).any() and not np.isclose(common / area_d, 0.5).any())  # a tie is decided by rounding
    ignore = np.arange(len(truth)) % 3 == 0
    straight = HmeanMetric().update(truth, ignore, found)
    polygons = HmeanMetric().update([with_corner(box) for box in truth], ignore, [with_corner(box) for box in found])
    assert straight == polygons
    if truth and found:
        assert HmeanMetric().update(np.stack(truth), ignore, np.stack(found)) == straight
