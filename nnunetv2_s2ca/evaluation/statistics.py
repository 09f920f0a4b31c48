"""Means, intervals and paired tests over cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 5000
SEED = 20240901

# Up to so many cases, a resample of one case alone has a probability of over 2.5 % (1/4 for two,
# 1/27 for three), so that the bootstrap's 95 % interval ends at the smallest and largest value
MOST_CASES_OF_A_RANGE = 3


@dataclass(frozen=True)
class Summary:
    """A metric over cases.

    Attributes:
        cases: Number of cases that have a value.
        infinite: How many of those were infinite and entered as the rules' penalty.
        mean: Mean.
        median: Median.
        std: Standard deviation of the sample (divided by `cases - 1`).
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
    """A metric of two runs over the cases that both have.

    Attributes:
        cases: Number of pairs of numbers, which means, interval and test are over.
        left_out: Number of the other pairs: at least one run has no number.
        mean_first: Mean of the first run.
        mean_second: Mean of the second run.
        difference: Mean of second minus first.
        ci_low: Lower end of the difference's 95 % bootstrap interval.
        ci_high: Upper end.
        p_value: Two-sided Wilcoxon signed-rank test of the differences, not corrected for the
            number of metrics and regions.
        wins: Cases where the second run is better, or where it alone has no number.
        losses: Cases where it is worse, or where the first run alone has no number.
        ties: Cases where both have the same number.
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
    """Mean, median, deviation and interval of `values`, without those that are not a number.

    Args:
        values: One value per case.
        infinity: What an infinite value counts.
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

    A run has no number where its region is empty and rightly so, by the rules of 2026. The other
    run's number is then that of a false positive: a win for the run without one, of no size that
    means and test could take in.

    Args:
        first: One value per case.
        second: The same cases in the same order.
        higher_is_better: True for Dice, False for HD95.
        infinity: What an infinite value counts.
    """
    pairs = np.array([first, second], dtype=float)
    empty_first, empty_second = np.isnan(pairs)
    left_out = empty_first | empty_second
    pairs = pairs[:, ~left_out]
    pairs[np.isinf(pairs)] = infinity
    differences = pairs[1] - pairs[0]
    # rounding of the last digit, which a csv may add, is no difference
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
    return float(stats.wilcoxon(differences).pvalue)
