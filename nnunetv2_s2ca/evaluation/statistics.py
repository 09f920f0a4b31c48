"""Means, intervals and paired tests over cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 5000
SEED = 20240901

# With at most this many cases, a resample repeats a given case with a probability of over 2.5 %
# (1/4 for two, 1/27 for three), so the 95 % bootstrap interval equals the range
MOST_CASES_OF_A_RANGE = 3


@dataclass(frozen=True)
class Summary:
    """A metric over cases.

    Attributes:
        cases: Number of cases with a value.
        infinite: Number of infinite values, which count as the rules' penalty.
        mean: Mean.
        median: Median.
        std: Sample standard deviation (divided by `cases - 1`).
        ci_low: Lower end of the mean's 95 % bootstrap interval.
        ci_high: Upper end.
    """

    cases: int
    infinite: int
    mean: float
    median: float
    std: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Comparison:
    """A metric of two runs over their common cases.

    Attributes:
        cases: Number of cases where both runs have a value; means, interval and test use these.
        left_out: Number of cases where at least one run has no value.
        mean_first: Mean of the first run.
        mean_second: Mean of the second run.
        difference: Mean of second minus first.
        ci_low: Lower end of the difference's 95 % bootstrap interval.
        ci_high: Upper end.
        p_value: Two-sided Wilcoxon signed-rank test of the differences, not corrected for the
            number of metrics and regions.
        wins: Cases where the second run is better, or where only it has no value.
        losses: Cases where it is worse, or where only the first run has no value.
        ties: Cases where both have the same value.
    """

    cases: int
    left_out: int
    mean_first: float
    mean_second: float
    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    wins: int
    losses: int
    ties: int


def summarise(values: Sequence[float], *, infinity: float = math.inf) -> Summary:
    """Mean, median, standard deviation and interval of `values`, ignoring NaN.

    Args:
        values: One value per case.
        infinity: Replaces infinite values.
    """
    numbers = np.array([value for value in values if not math.isnan(value)], dtype=float)
    infinite = int(np.isinf(numbers).sum())
    numbers[np.isinf(numbers)] = infinity
    if len(numbers) == 0:
        return Summary(0, 0, math.nan, math.nan, math.nan, math.nan, math.nan)
    low, high = _interval(numbers)
    return Summary(
        cases=len(numbers),
        infinite=infinite,
        mean=float(numbers.mean()),
        median=float(np.median(numbers)),
        std=float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan,
        ci_low=low,
        ci_high=high,
    )


def compare(
    first: Sequence[float],
    second: Sequence[float],
    *,
    higher_is_better: bool,
    infinity: float = math.inf,
) -> Comparison:
    """Paired comparison of two runs.

    Under the rules of 2026, a run has no value for a case where reference and prediction are both
    empty. A value of the other run then comes from a false positive: the run without one wins,
    but means and test cannot include the case.

    Args:
        first: One value per case.
        second: The same cases in the same order.
        higher_is_better: True for Dice, False for HD95.
        infinity: Replaces infinite values.
    """
    pairs = np.array([first, second], dtype=float)
    empty_first, empty_second = np.isnan(pairs)
    left_out = empty_first | empty_second
    pairs = pairs[:, ~left_out]
    pairs[np.isinf(pairs)] = infinity
    differences = pairs[1] - pairs[0]
    # ignore differences by rounding, as a CSV may add
    differences[np.abs(differences) < 1e-9] = 0
    count = len(differences)
    better = differences if higher_is_better else -differences
    low, high = _interval(differences) if count else (math.nan, math.nan)
    return Comparison(
        cases=count,
        left_out=int(left_out.sum()),
        mean_first=float(pairs[0].mean()) if count else math.nan,
        mean_second=float(pairs[1].mean()) if count else math.nan,
        difference=float(differences.mean()) if count else math.nan,
        ci_low=low,
        ci_high=high,
        p_value=_wilcoxon(differences),
        wins=int((better > 0).sum() + (empty_second & ~empty_first).sum()),
        losses=int((better < 0).sum() + (empty_first & ~empty_second).sum()),
        ties=int((better == 0).sum()),
    )


def _interval(numbers: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean."""
    if len(numbers) < 2:
        return math.nan, math.nan
    from scipy import stats  # slow to import

    result = stats.bootstrap(
        (numbers,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=500,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _wilcoxon(differences: np.ndarray) -> float:
    if len(differences) == 0:
        return math.nan
    if not differences.any():
        return 1.0
    from scipy import stats

    return float(stats.wilcoxon(differences).pvalue)
