"""The parity gate over any function that trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocrsdk import OcrsdkError, SettingsError, check_parity
from ocrsdk.precision.certificates import read_all

ALIKE = {"subject": {"model": "segmenter", "data": "bright pixels"}, "device": "cpu", "margin": 0.01}


def scores(loss: float) -> Any:
    """A training whose score is noisy by seed, and lower by ``loss`` under the candidate."""

    def train(precision: str, seed: int) -> float:
        return 0.9 + 0.02 * float(np.random.default_rng(seed).random()) - loss * (precision != "fp32")

    return train


def test_a_pass_leaves_report_and_certificate(tmp_path: Path):
    seen: list[tuple[str, int]] = []
    report = check_parity(
        scores(0.0), "fp16-safe", out=tmp_path / "out", certificates=tmp_path / "proofs", seeds=4,
        on_run=lambda run, number, total: seen.append((run.strategy, number)), **ALIKE,
    )  # fmt: skip
    assert (report.outcome, report.difference) == ("pass", 0.0)
    assert seen == [(name, n) for n, name in enumerate(["fp32", "fp16-safe"] * 4, 1)]
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (written["outcome"], len(written["runs"]), written["epochs"]) == ("pass", 8, None)
    assert (tmp_path / "out" / "report.png").stat().st_size > 5000
    (proof,) = read_all(tmp_path / "proofs")
    assert (proof.binding.strategy, proof.binding.subject, proof.seeds) == ("fp16-safe", ALIKE["subject"], 4)


def test_a_loss_fails_and_takes_an_earlier_certificate_away(tmp_path: Path):
    check_parity(scores(0.0), "fp16-safe", out=tmp_path / "a", certificates=tmp_path / "proofs", **ALIKE)
    report = check_parity(scores(0.1), "fp16-safe", out=tmp_path / "b", certificates=tmp_path / "proofs", **ALIKE)
    assert report.outcome == "inconclusive"  # equal differences say nothing of their spread
    noisy = lambda precision, seed: scores(0.1)(precision, seed + 100 * (precision != "fp32"))  # noqa: E731
    report = check_parity(noisy, "fp16-safe", out=tmp_path / "c", certificates=tmp_path / "proofs", seeds=5, **ALIKE)
    assert (report.outcome, report.certificate) == ("fail", None)
    assert read_all(tmp_path / "proofs") == []


def test_a_run_that_nan_stops_fails_the_candidate(tmp_path: Path):
    def train(precision: str, seed: int) -> float:
        if precision != "fp32":
            raise FloatingPointError("NaN at step 3")
        return 0.9 + seed / 100

    report = check_parity(train, "fp16-safe", out=tmp_path / "out", **ALIKE)
    assert (report.outcome, report.reason) == ("fail", "3 of the candidate's runs stopped: NaN at step 3")


def test_a_baseline_that_learned_nothing_proves_nothing(tmp_path: Path):
    report = check_parity(scores(0.0), "fp16-safe", out=tmp_path / "out", least_score=0.95, **ALIKE)
    assert report.outcome == "inconclusive"
    assert "learned too little" in report.reason


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"margin": 12}, "^margin=12: expected more than 0 and at most 10$"),
        ({"seeds": 0}, "^seeds=0: expected 1 or more"),
        ({"candidate": "fp32"}, "proves nothing against itself"),
        ({"candidate": "fp16-saf"}, "Did you mean 'fp16-safe'"),
        ({"options": {"nothing": 1}}, "has no such option"),
    ],
)
def test_refusals_are_in_pythons_terms_and_come_before_training(tmp_path: Path, changes: dict[str, Any], told: str):
    def train(precision: str, seed: int) -> float:
        raise AssertionError

    with pytest.raises(OcrsdkError, match=told):
        check_parity(**{"train": train, "candidate": "fp16-safe", "out": tmp_path / "out", **ALIKE, **changes})
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path):
    (tmp_path / "note").touch()
    with pytest.raises(OcrsdkError, match="is not empty"):
        check_parity(scores(0.0), "fp16-safe", out=tmp_path, **ALIKE)


def test_a_score_is_a_number(tmp_path: Path):
    with pytest.raises(OcrsdkError, match=r"train\('fp32', 0\) returned nan"):
        check_parity(lambda precision, seed: float("nan"), "fp16-safe", out=tmp_path / "out", **ALIKE)


def test_a_subject_that_cannot_be_kept_is_refused_before_training(tmp_path: Path):
    def train(precision: str, seed: int) -> float:
        raise AssertionError("trained")

    with pytest.raises(SettingsError, match="subject: is not JSON-ready"):
        check_parity(train, "fp16-safe", subject={"data": tmp_path}, device="cpu", out=tmp_path / "out")
