"""Region-wise metrics, and every row of the rules for empty regions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_s2ca.brats.regions import Region
from nnunetv2_s2ca.evaluation.case import evaluate_case
from nnunetv2_s2ca.evaluation.rules import rules_named
from tests.evaluation.shapes import BRATS2019, ball, blobs, real_pairs

REGIONS = [Region(name, labels) for name, labels in BRATS2019.items()]
ONE = [Region("R", (1,))]
CLASSIC = rules_named("classic")


def score(reference, prediction, *, rules=CLASSIC, regions=ONE, spacing=(1.0, 1.0, 1.0), **more):
    return evaluate_case(
        reference.astype(np.uint8),
        prediction.astype(np.uint8),
        spacing=spacing,
        regions=regions,
        rules=rules,
        **more,
    )


def overlap_by_simpleitk(reference, prediction):
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(
        sitk.GetImageFromArray(reference.astype(np.uint8)),
        sitk.GetImageFromArray(prediction.astype(np.uint8)),
    )
    return overlap


@pytest.mark.parametrize("seed", range(5))
def test_dice_of_random_masks_equals_simpleitks(seed):
    reference, prediction = blobs(seed), blobs(seed + 10)
    (row,) = score(reference, prediction)
    theirs = overlap_by_simpleitk(reference, prediction)
    assert row.dice == pytest.approx(theirs.GetDiceCoefficient(1), abs=1e-6)
    assert row.sensitivity == pytest.approx(1 - theirs.GetFalseNegativeError(1), abs=1e-6)


def test_dice_of_real_masks_equals_simpleitks_in_every_region():
    pairs = real_pairs()
    if not pairs:
        pytest.skip("the real cases are not beside this checkout")
    for reference, prediction in pairs:
        for row, region in zip(score(reference, prediction, regions=REGIONS), REGIONS, strict=True):
            first, second = np.isin(reference, region.labels), np.isin(prediction, region.labels)
            if first.any() and second.any():
                theirs = overlap_by_simpleitk(first, second).GetDiceCoefficient(1)
                assert row.dice == pytest.approx(theirs, abs=1e-6)


def test_counts_give_sensitivity_specificity_precision_and_volumes():
    reference, prediction = np.zeros((10, 10, 10), bool), np.zeros((10, 10, 10), bool)
    reference[2:6, 2:6, 2:6] = True  # 64 voxels
    prediction[4:8, 2:6, 2:6] = True  # 64 voxels, 32 in common
    (row,) = score(reference, prediction, spacing=(2.0, 1.0, 3.0))
    assert row.sensitivity == 0.5
    assert row.precision == 0.5
    assert row.specificity == pytest.approx(1 - 32 / (1000 - 64))
    assert row.reference_ml == pytest.approx(64 * 6 / 1000)
    assert row.prediction_ml == pytest.approx(64 * 6 / 1000)


@pytest.mark.parametrize(
    ("rules", "both_empty", "one_empty"),
    [
        ("classic", (1, 0, 1), (0, 373.13, 0)),
        ("lesionwise-2023", (1, 0, 1), (0, 374, 0)),
        ("brats-2026", (math.nan, math.nan, math.nan), (0, math.inf, 0)),
    ],
)
def test_empty_regions_count_as_the_rules_say(rules, both_empty, one_empty):
    rules = rules_named(rules)
    tumour, nothing = ball((20, 20, 20), (10, 10, 10), 5), np.zeros((20, 20, 20), bool)

    def values(row):
        return (row.dice, row.hd95_mm, row.nsd)

    (row,) = score(nothing, nothing, rules=rules)
    np.testing.assert_equal(values(row), both_empty)
    for reference, prediction in ((tumour, nothing), (nothing, tumour)):
        (row,) = score(reference, prediction, rules=rules)
        assert values(row) == one_empty


@pytest.mark.parametrize(
    ("rules", "both_empty", "one_empty"),
    [
        ("classic", (1, 0), (0, 374)),
        ("lesionwise-2023", (1, 0), (0, 374)),
        ("brats-2026", (math.nan, math.nan), (0, math.inf)),
    ],
)
def test_empty_regions_count_lesionwise_as_the_rules_say(rules, both_empty, one_empty):
    rules = rules_named(rules)
    tumour, nothing = ball((20, 20, 20), (10, 10, 10), 5), np.zeros((20, 20, 20), bool)
    (row,) = score(nothing, nothing, rules=rules)
    np.testing.assert_equal((row.lesion_dice, row.lesion_hd95_mm), both_empty)
    (row,) = score(tumour, nothing, rules=rules)
    assert (row.lesion_dice, row.lesion_hd95_mm) == one_empty
    assert (row.lesions, row.lesions_missed, row.lesions_false) == (1, 1, 0)
    (row,) = score(nothing, tumour, rules=rules)
    assert (row.lesion_dice, row.lesion_hd95_mm) == one_empty
    assert (row.lesions, row.lesions_missed, row.lesions_false) == (0, 0, 1)


def test_what_has_no_denominator_is_not_a_number():
    tumour, nothing = ball((20, 20, 20), (10, 10, 10), 5), np.zeros((20, 20, 20), bool)
    (row,) = score(nothing, tumour)
    assert math.isnan(row.sensitivity)
    assert row.precision == 0
    (row,) = score(tumour, nothing)
    assert math.isnan(row.precision)
    assert row.sensitivity == 0


def test_a_perfect_prediction_scores_perfectly_under_all_rules():
    labels = np.zeros((30, 30, 30), np.uint8)
    for label, radius in ((2, 10), (1, 7), (4, 4)):
        labels[ball(labels.shape, (15, 15, 15), radius)] = label
    for name in ("classic", "lesionwise-2023", "brats-2026"):
        for row in score(labels, labels, rules=rules_named(name), regions=REGIONS):
            assert (row.dice, row.hd95_mm, row.nsd) == (1, 0, 1)
            assert (row.lesion_dice, row.lesion_hd95_mm) == (1, 0)
            assert (row.lesions, row.lesions_missed, row.lesions_false) == (1, 0, 0)


def test_ignored_voxels_change_nothing():
    reference, prediction = np.zeros((16, 16, 16), np.uint8), np.zeros((16, 16, 16), np.uint8)
    reference[4:8, 4:8, 4:8] = 1
    prediction[4:8, 4:8, 4:10] = 1
    reference[4:8, 4:8, 8:10] = 9
    (row,) = score(reference, prediction, ignore_label=9)
    assert row.dice == 1
    assert row.specificity == 1


def test_tolerance_reaches_nsd():
    reference = ball((30, 30, 30), (15, 15, 15), 8)
    prediction = np.roll(reference, 2, 0)
    strict = score(reference, prediction, rules=rules_named("classic", tolerance=0.5))[0]
    loose = score(reference, prediction, rules=rules_named("classic", tolerance=3))[0]
    assert strict.nsd < 0.5
    assert loose.nsd == 1
