"""Total-Text's polygon IoU by hand, and against loops with shapely's areas."""

from __future__ import annotations

import json

import pytest
import shapely

from ocrsdk.metrics.totaltext import TotalTextMetric
from tests.conftest import GOLDEN
from tests.metrics.test_deteval import NEXT, WORD, box

CASES = json.loads((GOLDEN / "eval_icdar" / "cases.json").read_text())["cases"]


@pytest.mark.parametrize(
    ("truth", "ignore", "detections", "expected"),
    [
        ([WORD], [False], [box(0, 0, 50, 20)], (1, 1, 1)),  # 0.5 is enough
        ([WORD], [False], [WORD, box(0, 0, 90, 20)], (0, 1, 2)),  # found twice is not found
        ([WORD, NEXT], [False, True], [WORD, NEXT], (1, 1, 1)),
        ([], [], [WORD], (0, 0, 1)),
    ],
)
def test_by_hand(truth: list, ignore: list, detections: list, expected: tuple):
    score = TotalTextMetric().update(truth, ignore, detections)
    assert (score.matched, score.gt_cared, score.det_cared) == expected


def test_every_golden_page_as_written_down():
    metric = TotalTextMetric()
    for case in CASES:
        shapes = [(shapely.Polygon(p), hidden) for p, hidden in zip(case["gt"], case["ignore"], strict=True)]
        hidden = [s for s, flag in shapes if flag and s.is_valid and s.area]
        texts = [s for s, flag in shapes if not flag and s.is_valid and s.area]
        found = [s for s in map(shapely.Polygon, case["det"]) if s.is_valid and s.area]
        found = [d for d in found if not any(d.intersection(h).area / d.area > 0.5 for h in hidden)]
        hits = [sum(t.intersection(d).area / t.union(d).area >= 0.5 for d in found) for t in texts]
        score = metric.update(case["gt"], case["ignore"], case["det"])
        assert (score.matched, score.gt_cared, score.det_cared) == (hits.count(1), len(texts), len(found)), case["id"]
    assert metric.compute().matched == sum(score.matched for score in metric.compute().per_image) > 500
