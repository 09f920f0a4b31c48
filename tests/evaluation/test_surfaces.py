"""Distances against SimpleITK's filters, MONAI's metrics and the package surface-distance."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai import metrics

from nnunetv2_s2ca.evaluation.boxes import bounding_box
from nnunetv2_s2ca.evaluation.surfaces import (
    boundary_distances,
    hd95_of_boundaries,
    hd95_of_surfels,
    hd95_pooled,
    surface_dice,
    surface_dice_of_shares,
    surfel_distances,
)
from tests.evaluation.shapes import BRATS2019, ball, blobs, real_pairs

SPACINGS = [(1.0, 1.0, 1.0), (0.7, 1.3, 3.0)]


def hd95_by_simpleitk(reference: np.ndarray, prediction: np.ndarray, spacing) -> float:
    """HD95 by ITK's contour and Maurer distance filters."""

    def contour(mask):
        image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8).T)
        image.SetSpacing(spacing)
        return sitk.LabelContour(image, fullyConnected=False)

    def directed(source, target):
        distance = sitk.SignedMaurerDistanceMap(
            target, insideIsPositive=False, squaredDistance=False, useImageSpacing=True
        )
        values = sitk.GetArrayFromImage(distance)[sitk.GetArrayFromImage(source) == 1]
        return np.percentile(np.abs(values), 95)

    first, second = contour(reference), contour(prediction)
    return max(directed(first, second), directed(second, first))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(4))
def test_hd95_of_random_masks_equals_simpleitks_filters(seed, spacing):
    reference, prediction = blobs(seed), blobs(seed + 100, share=0.03)
    ours = hd95_of_boundaries(boundary_distances(reference, prediction, spacing=spacing))
    assert ours == pytest.approx(hd95_by_simpleitk(reference, prediction, spacing), abs=1e-4)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_hd95_of_random_masks_equals_monais(spacing):
    reference, prediction = blobs(3), blobs(4)
    theirs = metrics.compute_hausdorff_distance(
        torch.from_numpy(prediction)[None, None],
        torch.from_numpy(reference)[None, None],
        include_background=True,
        percentile=95,
        spacing=list(spacing),
    ).item()
    ours = hd95_of_boundaries(boundary_distances(reference, prediction, spacing=spacing))
    assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.fixture(scope="module")
def real_masks() -> list[tuple[np.ndarray, np.ndarray]]:
    """Every region of the real cases that is in both masks, cut out."""
    masks = [
        (np.isin(reference, labels), np.isin(prediction, labels))
        for reference, prediction in real_pairs()
        for labels in BRATS2019.values()
    ]
    masks = [(first, second) for first, second in masks if first.any() and second.any()]
    if not masks:
        pytest.skip("the real cases are not beside this checkout")
    boxes = [bounding_box(first | second) for first, second in masks]
    return [(first[box], second[box]) for (first, second), box in zip(masks, boxes, strict=True)]


@pytest.mark.parametrize("spacing", SPACINGS)
def test_hd95_of_real_masks_equals_simpleitks_filters_in_every_region(real_masks, spacing):
    for first, second in real_masks:
        ours = hd95_of_boundaries(boundary_distances(first, second, spacing=spacing))
        assert ours == pytest.approx(hd95_by_simpleitk(first, second, spacing), abs=1e-4)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(3))
def test_surfels_equal_the_package_surface_distance(seed, spacing):
    import surface_distance

    reference, prediction = blobs(seed), blobs(seed + 50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs = surface_distance.compute_surface_distances(reference, prediction, spacing)
    ours = surfel_distances(reference, prediction, spacing=spacing)
    np.testing.assert_allclose(
        np.sort(ours.from_reference), theirs["distances_gt_to_pred"], atol=1e-9
    )
    assert ours.prediction_areas.sum() == pytest.approx(theirs["surfel_areas_pred"].sum())
    hd95 = surface_distance.compute_robust_hausdorff(theirs, 95)
    assert hd95_of_surfels(ours) == pytest.approx(hd95, abs=1e-9)
    dice = surface_distance.compute_surface_dice_at_tolerance(theirs, 1.0)
    assert surface_dice(ours, tolerance=1.0) == pytest.approx(dice, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    shift=st.integers(1, 12),
    spacing=st.tuples(*[st.floats(0.3, 4.0, allow_nan=False)] * 3),
)
def test_a_shifted_plane_is_as_far_as_it_was_shifted(shift, spacing):
    first, second = np.zeros((20, 5, 5), bool), np.zeros((20, 5, 5), bool)
    first[2], second[2 + shift] = True, True
    distances = boundary_distances(first, second, spacing=spacing)
    for measure in (hd95_of_boundaries, hd95_pooled):
        assert measure(distances) == pytest.approx(shift * spacing[0])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), other=st.integers(0, 1000))
def test_measures_are_symmetric_and_zero_for_equal_masks(seed, other):
    first, second = blobs(seed, shape=(16, 14, 12)), blobs(other, shape=(16, 14, 12))
    spacing = (1.0, 0.5, 2.0)
    for distances, measure in (
        (boundary_distances, hd95_of_boundaries),
        (boundary_distances, hd95_pooled),
        (surfel_distances, hd95_of_surfels),
    ):
        there = measure(distances(first, second, spacing=spacing))
        assert there == pytest.approx(measure(distances(second, first, spacing=spacing)))
        assert measure(distances(first, first, spacing=spacing)) == 0


@pytest.mark.parametrize(("tolerance", "expected"), [(0.9, 0.0), (1.0, 1.0)])
def test_a_distance_equal_to_the_tolerance_is_within_it(tolerance, expected):
    first, second = np.zeros((6, 4, 4), bool), np.zeros((6, 4, 4), bool)
    first[2], second[3] = True, True
    distances = boundary_distances(first, second, spacing=(1.0, 1.0, 1.0))
    assert surface_dice(distances, tolerance=tolerance) == expected
    assert surface_dice_of_shares(distances, tolerance=tolerance) == expected


def test_nsd_weighs_by_area_of_both_surfaces_together():
    # a small ball that is found and a large one that is not: the large surface weighs more
    small, large = ball((60, 30, 30), (10, 15, 15), 3), ball((60, 30, 30), (42, 15, 15), 10)
    distances = surfel_distances(small | large, small, spacing=(1.0, 1.0, 1.0))
    small_area, large_area = (
        surfel_distances(mask, mask, spacing=(1.0, 1.0, 1.0)).reference_areas.sum()
        for mask in (small, large)
    )
    expected = 2 * small_area / (2 * small_area + large_area)
    assert surface_dice(distances, tolerance=1.0) == pytest.approx(expected)
