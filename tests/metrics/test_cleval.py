"""CLEval, case by case against the figures of the original package, and by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ocrsdk.metrics.cleval import CLEvalMetric, CLEvalScore
from tests.conftest import SHARED


@pytest.fixture(scope="module")
def golden() -> dict:
    path: Path = SHARED / "golden/eval_cleval/cases.json"
    if not path.is_file():
        pytest.skip("the golden scores of CLEval are not there")
    return json.loads(path.read_text())


COUNTS = {
    "num_char_gt": "num_char_gt", "num_char_det": "num_char_det", "num_char_tp": "num_char_tp_recall", "num_char_fp": "num_char_fp",
    "num_char_overlapped": "num_char_overlapped", "num_splitted": "num_splitted", "num_merged": "num_merged",
    "penalty_recall": "gran_score_recall", "penalty_precision": "gran_score_precision",
}  # fmt: skip


def check(score: CLEvalScore, expected: dict) -> None:
    assert {name: getattr(score, name) for name in COUNTS} == {name: expected["counts"][key] for name, key in COUNTS.items()}
    for name in ("precision", "recall", "hmean"):
        assert getattr(score, name) == pytest.approx(expected[name], abs=1e-6)


def test_every_case_and_the_total_equal_the_original(golden: dict):
    metric = CLEvalMetric()
    for case in golden["cases"]:
        ignore = [text == "###" for text in case["text"]]
        score = metric.update([np.array(p) for p in case["gt"]], case["text"], ignore, [np.array(p) for p in case["det"]])
        check(score, case)
    assert len(metric.per_image) == 60
    check(metric.compute(), golden["aggregate"]["micro"])


def box(x: float, y: float, width: float, height: float) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float64)


WORD = box(0, 0, 100, 20)


@pytest.mark.parametrize(
    ("detections", "expected"),
    [
        ([WORD], (1.0, 1.0)),
        ([], (0.0, 0.0)),
        ([box(0, 0, 50, 20), box(50, 0, 50, 20)], (1.0, 0.9)),  # ten characters, one piece too many
        ([box(0, 0, 50, 20)], (1.0, 0.5)),
        ([WORD, box(300, 0, 20, 40)], (10 / (10 + round(0.5 + 40 / 20)), 1.0)),  # a false one costs its height over its width
        ([WORD, box(0, 1, 50, 18)], (10 / 15, 0.9)),  # five characters are claimed twice, and the text has two pieces
        ([np.array([[0, 0], [100, 20], [100, 0], [0, 20]])], (0.0, 0.0)),  # a bow tie is not judged
    ],
)
def test_one_word_by_hand(detections: list[np.ndarray], expected: tuple[float, float]):
    score = CLEvalMetric().update([WORD], ["ten.chars."], [False], detections)
    assert (score.precision, score.recall) == (pytest.approx(expected[0]), pytest.approx(expected[1]))


def test_merged_words_pay_for_each():
    words = [box(0, 0, 40, 20), box(60, 0, 40, 20)]
    score = CLEvalMetric().update(words, ["four", "four"], [False, False], [WORD])
    assert (score.num_merged, score.precision, score.recall) == (1, 7 / 8, 1.0)


def test_curved_text_is_followed():
    angle = np.linspace(np.pi, 2 * np.pi, 7)
    outer, inner = (np.stack([200 + r * np.cos(angle), 200 + r * np.sin(angle)], axis=1) for r in (100, 80))
    ring = np.concatenate([outer, inner[::-1]])
    score = CLEvalMetric().update([ring], ["a bent text"], [False], [ring])
    assert (score.recall, score.precision) == (1.0, 1.0)
    left = np.concatenate([outer[:4], inner[:4][::-1]])
    assert CLEvalMetric().update([ring], ["a bent text."], [False], [left]).num_char_tp == 6


def test_texts_of_unknown_length_and_bad_arguments():
    assert CLEvalMetric().update([WORD], [""], [False], [WORD]).num_char_gt == 5
    with pytest.raises(ValueError, match="1 ground-truth polygons, but 0 texts"):
        CLEvalMetric().update([WORD], [], [False], [])
    assert CLEvalMetric().update([], [], [], []).hmean == 0.0
