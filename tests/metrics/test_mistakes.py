"""Mistakes that are put in are the ones that are told; and nothing is told twice."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ocrsdk.metrics.hmean import HmeanMetric
from ocrsdk.metrics.mistakes import Mistakes, find_mistakes


def box(x: float, y: float, width: float, height: float = 20) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)


def mistakes(truth: list[np.ndarray], ignore: list[bool], detections: list[np.ndarray]) -> Mistakes:
    return find_mistakes(truth, ignore, detections, HmeanMetric().update(truth, ignore, detections))


def test_each_kind():
    truth = [box(0, 0, 50), box(60, 0, 50), box(0, 50, 200), box(0, 100, 50), box(0, 150, 50), box(0, 200, 90)]
    found = [
        box(0, 0, 110),  # the first two in one
        box(0, 50, 90), box(110, 50, 90),  # the third in two
        box(0, 101, 50),  # fine
        box(400, 400, 50),  # nothing there
        box(10, 200, 50),  # don't care
    ]  # fmt: skip
    assert mistakes(truth, [False] * 5 + [True], found) == Mistakes((4,), (4,), ((0, (0, 1)),), ((2, (1, 2)),))


boxes = st.lists(st.builds(box, st.integers(0, 200), st.integers(0, 80), st.integers(5, 120), st.integers(5, 40)), max_size=7)


@given(boxes, boxes, st.data())
def test_every_region_has_one_fate(truth: list[np.ndarray], found: list[np.ndarray], data: st.DataObject):
    ignore = [data.draw(st.booleans()) for _ in truth]
    score = HmeanMetric().update(truth, ignore, found)
    told = find_mistakes(truth, ignore, found, score)
    texts = (
        [i for i, _ in score.pairs]
        + list(told.misses)
        + [i for i, _ in told.splits]
        + [i for _, inner in told.merges for i in inner]
    )
    detections = (
        [j for _, j in score.pairs]
        + list(told.false_alarms)
        + [j for j, _ in told.merges]
        + [j for _, inner in told.splits for j in inner]
    )
    assert sorted(texts) == [i for i, hidden in enumerate(ignore) if not hidden]
    assert sorted([*detections, *score.det_ignored]) == list(range(len(found)))
