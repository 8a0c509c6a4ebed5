"""DetEval by hand, and against the protocol written down loop by loop with shapely's areas."""

from __future__ import annotations

import json

import numpy as np
import pytest
import shapely

from ocrsdk.metrics.deteval import DetEvalMetric, DetEvalScore
from tests.conftest import GOLDEN

CASES = json.loads((GOLDEN / "eval_icdar" / "cases.json").read_text())["cases"]


def box(x: float, y: float, width: float, height: float) -> list[list[float]]:
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]


WORD, NEXT = box(0, 0, 100, 20), box(110, 0, 100, 20)


@pytest.mark.parametrize(
    ("truth", "ignore", "detections", "expected"),
    [
        ([WORD], [False], [WORD], (1, 1, 1, 1, 0, 0)),
        ([WORD], [False], [], (0, 0, 1, 0, 0, 0)),
        ([], [], [WORD], (0, 0, 0, 1, 0, 0)),
        ([WORD], [False], [box(0, 0, 79, 20)], (0, 0, 1, 1, 0, 0)),  # 79 % of it is not enough
        ([WORD], [False], [box(0, 0, 100, 51)], (0, 0, 1, 1, 0, 0)),  # 39 % of it is text
        ([WORD], [False], [box(0, 0, 50, 20), box(50, 0, 50, 20)], (0.8, 1.6, 1, 2, 1, 0)),
        ([WORD, NEXT], [False, False], [box(0, 0, 210, 20)], (2, 1, 2, 1, 0, 1)),
        ([WORD, NEXT], [False, True], [WORD, NEXT], (1, 1, 1, 1, 0, 0)),
        ([WORD], [False], [WORD, box(90, 0, 100, 20)], (1, 1, 1, 2, 0, 0)),  # touched by a second, which is no part of it
    ],
)
def test_by_hand(truth: list, ignore: list, detections: list, expected: tuple):
    score = DetEvalMetric().update(truth, ignore, detections)
    assert score == DetEvalScore(*expected)


def written_down(gt: list, ignore: list, det: list) -> tuple[float, float, int, int]:
    """Sums and counts, one rule after the other; 0.8 and 0.4 are the limits of the competition."""
    shapes = [(shapely.Polygon(g), hidden) for g, hidden in zip(gt, ignore, strict=True)]
    texts = [(s, hidden) for s, hidden in shapes if s.is_valid and s.area > 0]
    boxes = [s for s in map(shapely.Polygon, det) if s.is_valid and s.area > 0]
    aside = {j for j, d in enumerate(boxes) for t, hidden in texts if hidden and t.intersection(d).area / d.area > 0.4}
    share = [[t.intersection(d).area / t.area for d in boxes] for t, _ in texts]
    purity = [[t.intersection(d).area / d.area for d in boxes] for t, _ in texts]
    n, m = range(len(texts)), range(len(boxes))
    cared = [i for i in n if not texts[i][1]]

    def fits(i: int, j: int) -> bool:
        return share[i][j] >= 0.8 and purity[i][j] >= 0.4

    def detections_of(i: int) -> int:
        return sum(share[i][j] > 1e-9 for j in m if j not in aside)

    def texts_of(j: int) -> int:
        return sum(share[i][j] > 1e-9 for i in cared)

    def apart(i: int, j: int) -> float:
        corners = [np.array(s.exterior.coords)[:-1] for s in (texts[i][0], boxes[j])]
        diagonals = sum(np.hypot(*np.ptp(c, axis=0)) for c in corners)
        return 2 * np.hypot(*(corners[0].mean(axis=0) - corners[1].mean(axis=0))) / diagonals

    done_g, done_d, recall, precision = set(), set(), 0.0, 0.0
    for i in cared:
        for j in m:
            if j in aside or i in done_g or j in done_d or not fits(i, j):
                continue
            only = sum(fits(i, k) for k in m) == 1 and sum(fits(k, j) for k in n) == 1
            if only and detections_of(i) == 1 and texts_of(j) == 1 and apart(i, j) < 1:
                done_g.add(i), done_d.add(j)
                recall, precision = recall + 1, precision + 1
    for i in cared:
        if i in done_g or detections_of(i) < 2:
            continue
        parts = [j for j in m if j not in aside and j not in done_d and purity[i][j] >= 0.4]
        if round(sum(share[i][j] for j in parts), 4) >= 0.8:
            done_g.add(i), done_d.update(parts)
            recall += 1 if len(parts) == 1 else 0.8
            precision += 1 if len(parts) == 1 else 0.8 * len(parts)
    for j in m:
        if j in aside or j in done_d or texts_of(j) < 2:
            continue
        held = [i for i in cared if i not in done_g and share[i][j] >= 0.8]
        if round(sum(purity[i][j] for i in held), 4) >= 0.4:
            done_d.add(j), done_g.update(held)
            recall, precision = recall + len(held), precision + 1
    return recall, precision, len(cared), len(boxes) - len(aside)


def test_every_golden_page_as_written_down():
    metric = DetEvalMetric()
    for case in CASES:
        score = metric.update(case["gt"], case["ignore"], case["det"])
        found = (score.recall_sum, score.precision_sum, score.gt_cared, score.det_cared)
        assert found == pytest.approx(written_down(case["gt"], case["ignore"], case["det"]), abs=1e-9), case["id"]
    total = metric.compute()
    assert total.splits > 0
    assert total.merges > 0
    assert total.recall == pytest.approx(sum(s.recall_sum for s in metric.per_image) / sum(s.gt_cared for s in metric.per_image))
    assert total.hmean == pytest.approx(2 / (1 / total.recall + 1 / total.precision))
    metric.reset()
    assert metric.compute() == DetEvalScore()
    assert (DetEvalScore().hmean, DetEvalScore(det_cared=1).hmean, DetEvalScore(gt_cared=1).hmean) == (1, 0, 0)


def test_wrong_number_of_flags():
    with pytest.raises(ValueError, match="1 ground-truth polygons, but 2 ignore flags"):
        DetEvalMetric().update([WORD], [False, True], [])
