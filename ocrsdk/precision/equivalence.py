"""Is a candidate as accurate as the baseline? Statistics of paired runs."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Outcome = Literal["pass", "fail", "inconclusive"]

MOST_MARGIN = 10.0
"""No check with a larger margin, in points, says anything."""
SAME = 1e-6
"""Points. Scores that are closer differ by rounding; differences that are all zero pass, as nothing differs."""


@dataclass(frozen=True)
class Equivalence:
    """Outcome of two one-sided t-tests on paired differences (Schuirmann 1987), at 5 % each."""

    outcome: Outcome
    reason: str
    difference: float
    """Mean of candidate minus baseline, in points."""
    low: float
    high: float
    """Its 90 % confidence interval; infinitely wide with fewer than two pairs."""


def passes(low: float, high: float, margin: float) -> bool:
    """Whether a difference in this interval lies within the margin, or is a gain beyond doubt."""
    return low > -margin and (high < margin or low > 0)


def equivalence(baseline: Sequence[float], candidate: Sequence[float], margin: float, least_score: float = 0.0) -> Equivalence:
    """Compare paired scores.

    ``pass`` when the whole interval lies between -margin and +margin, or the candidate is better beyond doubt; ``fail`` when the
    whole interval lies below -margin; else ``inconclusive``.

    Args:
        baseline: Scores, one for each seed.
        candidate: The same seeds.
        margin: A difference that does not matter.
        least_score: A baseline below it has learned nothing that a comparison could show.
    """
    pairs = list(zip(baseline, candidate, strict=True))
    differences = [b - a for a, b in pairs]
    mean = statistics.fmean(differences)
    low, high = _interval(differences, mean)
    if statistics.fmean(baseline) < least_score:
        reason = f"the baseline learned too little to compare with (score {statistics.fmean(baseline):.1f}); give more epochs"
        return Equivalence("inconclusive", reason, mean, low, high)
    where = f"the 90 % interval of the difference is {low:+.2f} to {high:+.2f} points"
    if len(pairs) < 2:
        return Equivalence("inconclusive", "one seed tells nothing about the spread; give at least 2, better 5", mean, low, high)
    if max(differences) - min(differences) < SAME <= abs(mean):
        return Equivalence(
            "inconclusive", "all differences are equal, which says nothing of their spread; give more seeds", mean, low, high
        )
    if passes(low, high, margin):
        return Equivalence(
            "pass", f"{where}, within the margin of {margin:g}" if high < margin else f"{where}: better", mean, low, high
        )
    if high < -margin:
        return Equivalence("fail", f"{where}, all of it below -{margin:g}", mean, low, high)
    return Equivalence("inconclusive", f"{where}, across the margin of {margin:g}; give more seeds or epochs", mean, low, high)


def _interval(differences: Sequence[float], mean: float) -> tuple[float, float]:
    if len(differences) < 2:
        return -math.inf, math.inf
    from scipy.stats import t

    spread = statistics.stdev(differences) / math.sqrt(len(differences))
    reach = float(t.ppf(0.95, len(differences) - 1)) * spread
    return mean - reach, mean + reach
