"""Means, intervals and paired tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nnunetv2_s2ca.evaluation.statistics import compare, summarise

NAN = math.nan


def test_values_that_are_not_a_number_are_left_out():
    assert summarise([1.0, NAN, 3.0]).cases == 2
    assert summarise([1.0, NAN, 3.0]).mean == 2


def test_nothing_at_all_has_no_mean():
    assert math.isnan(summarise([NAN]).mean)
    assert summarise([]).cases == 0


def test_one_case_has_a_mean_and_no_interval():
    summary = summarise([0.5])
    assert summary.mean == 0.5
    assert math.isnan(summary.std)
    assert math.isnan(summary.ci_low)


def test_interval_is_close_to_the_normal_one_and_the_same_every_time():
    values = np.random.default_rng(1).normal(0.8, 0.1, 400).tolist()
    summary = summarise(values)
    half = 1.96 * np.std(values, ddof=1) / 20
    assert summary.ci_low == pytest.approx(summary.mean - half, abs=0.002)
    assert summary.ci_high == pytest.approx(summary.mean + half, abs=0.002)
    assert summarise(values) == summary


def test_p_value_is_scipys_wilcoxon():
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=30), rng.normal(0.4, 1, size=30)
    found = compare(first, second, higher_is_better=True)
    assert found.p_value == pytest.approx(stats.wilcoxon(second - first).pvalue)
    assert found.wins + found.losses + found.ties == 30


def test_equal_runs_do_not_differ():
    found = compare([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], higher_is_better=True)
    assert (found.p_value, found.difference, found.ties) == (1.0, 0.0, 3)


def test_a_region_rightly_left_empty_wins_against_a_false_positive():
    # rules of 2026: no number where reference and prediction are empty, Dice 0 for a false positive
    first, second = [0.9, NAN, NAN, 0.0, NAN], [0.8, 0.0, NAN, NAN, 0.0]
    found = compare(first, second, higher_is_better=True)
    assert (found.cases, found.left_out) == (1, 4)
    assert (found.wins, found.losses, found.ties) == (1, 3, 0)
    assert found.difference == pytest.approx(-0.1)
    found = compare([NAN], [math.inf], higher_is_better=False, infinity=373)
    assert (found.cases, found.wins, found.losses) == (0, 0, 1)
    assert math.isnan(found.difference)


def test_lower_distances_are_wins():
    found = compare([5.0, 5.0], [4.0, math.inf], higher_is_better=False, infinity=373)
    assert (found.wins, found.losses) == (1, 1)
    assert found.difference == pytest.approx((-1 + 368) / 2)
