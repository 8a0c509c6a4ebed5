"""The statistics of paired runs, and the verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from ocrsdk.precision.equivalence import equivalence
from ocrsdk.precision.gate import ArmRun, ratios, verdict


@given(st.lists(st.tuples(st.floats(20, 99), st.floats(20, 99)), min_size=2, max_size=8))
def test_the_interval_is_that_of_a_paired_t_test(pairs: list[tuple[float, float]]):
    base, cand = (np.array(side) for side in zip(*pairs, strict=True))
    found = equivalence(list(base), list(cand), 1.0)
    if np.ptp(cand - base) < 1e-6:
        assert found.low == pytest.approx(found.high, abs=1e-4)
        assert found.outcome == ("pass" if abs(np.mean(cand - base)) < 1e-6 else "inconclusive")
        return
    want = ttest_rel(cand, base).confidence_interval(0.9)
    assert found.low == pytest.approx(want.low, rel=1e-6, abs=1e-6)
    assert found.high == pytest.approx(want.high, rel=1e-6, abs=1e-6)
    tests = (ttest_rel(cand + 1, base, alternative="greater").pvalue, ttest_rel(cand - 1, base, alternative="less").pvalue)
    if all(abs(p - 0.05) > 1e-6 for p in tests):
        if max(tests) < 0.05:
            assert found.outcome == "pass"
        elif found.outcome == "pass":
            assert found.low > 0
    assert (found.outcome == "fail") == (found.high < -1)


@pytest.mark.parametrize(
    ("base", "cand", "outcome", "reason"),
    [
        ([90, 91, 92], [90, 91, 92], "pass", "within the margin of 1"),
        ([90.0, 91.0, 92.0], [89.8, 91.1, 91.9], "pass", "within the margin of 1"),
        ([90, 91, 92], [78.2, 79.3, 80.1], "fail", "all of it below -1"),
        ([90, 91, 92], [88, 93, 92], "inconclusive", "across the margin"),
        ([90, 91, 92], [93, 94.1, 95], "pass", "better"),
        ([90], [90], "inconclusive", "one seed"),
        ([90, 91], [89.5, 90.5], "inconclusive", "all differences are equal"),
        ([0, 0, 0], [0, 0, 0], "inconclusive", "the baseline learned too little"),
    ],
)
def test_outcomes(base: list[float], cand: list[float], outcome: str, reason: str):
    found = equivalence(base, cand, 1.0, least_score=10)
    assert found.outcome == outcome
    assert reason in found.reason


@given(st.lists(st.floats(20, 99), min_size=2, max_size=8), st.sampled_from([-30.0, -3.0, -0.5, 0.0, 0.1, 2.0]))
def test_equal_differences_have_one_outcome_however_they_are_rounded(base: list[float], shift: float):
    found = equivalence(base, [b + shift for b in base], 1.0)
    assert found.outcome == ("inconclusive" if shift else "pass")


def arm_run(arm: str, seed: int, hmean: float, stopped: str = "", speed: float | None = 10.0, memory: int = 100) -> ArmRun:
    return ArmRun(arm, arm, seed, hmean, "", speed, memory, stopped=stopped)


def test_a_stopped_run_fails_the_candidate_and_never_counts_for_the_baseline():
    base = [arm_run("baseline", s, 90) for s in range(3)]
    good = [arm_run("candidate", s, 90, speed=15.0, memory=60) for s in range(2)]
    broken = arm_run("candidate", 2, 0, "NaN", None, 0)
    assert verdict([*base, *good, broken], 1.0).outcome == "fail"
    assert ratios([*base, *good, broken]) == (1.5, 0.6)
    cold = replace(base[0], images_per_second=1.0)  # its run fills the cache
    assert ratios([cold, *base[1:], *good, broken]) == (1.5, 0.6)
    swapped = [replace(r, arm="baseline") for r in (*good, broken)] + [replace(r, arm="candidate") for r in base]
    assert verdict(swapped, 1.0).outcome == "inconclusive"
