"""All metrics of one case."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunetv2_s2ca.brats.regions import Region
from nnunetv2_s2ca.evaluation.boxes import bounding_box
from nnunetv2_s2ca.evaluation.lesions import score_lesions
from nnunetv2_s2ca.evaluation.rules import Rules
from nnunetv2_s2ca.evaluation.surfaces import Spacing


@dataclass(frozen=True)
class RegionMetrics:
    """The metrics of one region of one case.

    Undefined metrics are NaN: precision without a prediction, sensitivity without a reference
    (except under the rules of 2023), and what the rules leave out.

    Attributes:
        region: Name of the region.
        dice: Dice coefficient, 0 to 1.
        hd95_mm: 95th percentile of the Hausdorff distance in mm.
        nsd: Normalised surface Dice at the rules' tolerance, 0 to 1.
        sensitivity: Share of the reference's voxels that were predicted; the rules'
            `empty_sensitivity` if the reference is empty.
        specificity: Share of the voxels outside the reference that were not predicted.
        precision: Share of the predicted voxels that are in the reference.
        reference_ml: Volume of the reference in ml.
        prediction_ml: Volume of the prediction in ml.
        lesion_dice: Lesion-wise Dice.
        lesion_hd95_mm: Lesion-wise HD95 in mm.
        lesion_nsd: Lesion-wise NSD.
        lesions: Number of lesions in the reference.
        lesions_missed: Number of reference lesions that were missed.
        lesions_false: Number of predicted lesions without a reference lesion.
    """

    region: str
    dice: float
    hd95_mm: float
    nsd: float
    sensitivity: float
    specificity: float
    precision: float
    reference_ml: float
    prediction_ml: float
    lesion_dice: float
    lesion_hd95_mm: float
    lesion_nsd: float
    lesions: int
    lesions_missed: int
    lesions_false: int


def evaluate_case(
    reference: np.ndarray,
    prediction: np.ndarray,
    *,
    spacing: Spacing,
    regions: Sequence[Region],
    rules: Rules,
    ignore_label: int | None = None,
) -> list[RegionMetrics]:
    """The metrics of every region of one case.

    Args:
        reference: Labels, unsigned integers of shape `(H, W, D)`.
        prediction: Labels of the same shape.
        spacing: Voxel size in mm along each axis.
        regions: Regions to score.
        rules: The rules to score by.
        ignore_label: Voxels with this reference label count as background in both.
    """
    voxels = reference.size
    if ignore_label is not None:
        ignored = reference == ignore_label
        voxels -= int(np.count_nonzero(ignored))
        prediction = np.where(ignored, 0, prediction)
        reference = np.where(ignored, 0, reference)
    box = bounding_box((reference != 0) | (prediction != 0))
    reference, prediction = reference[box], prediction[box]
    return [
        _evaluate_region(
            region.name,
            np.ascontiguousarray(region.mask(reference)),
            np.ascontiguousarray(region.mask(prediction)),
            voxels,
            spacing,
            rules,
        )
        for region in regions
    ]


def _evaluate_region(
    name: str,
    reference: np.ndarray,
    prediction: np.ndarray,
    voxels: int,
    spacing: Spacing,
    rules: Rules,
) -> RegionMetrics:
    box = bounding_box(reference | prediction)
    reference, prediction = reference[box], prediction[box]
    positive, predicted = int(np.count_nonzero(reference)), int(np.count_nonzero(prediction))
    common = int(np.count_nonzero(reference & prediction))
    negative = voxels - positive
    voxel_ml = math.prod(spacing) / 1000

    if positive == 0 and predicted == 0:
        dice, nsd, hd95 = rules.both_empty
    elif positive == 0 or predicted == 0:
        dice, nsd, hd95 = rules.one_empty
    elif common == 0 and rules.no_overlap is not None:
        dice, nsd, hd95 = rules.no_overlap
    else:
        dice = 2 * common / (positive + predicted)
        distances = rules.surfaces(reference, prediction, spacing=spacing)
        hd95 = rules.hd95(distances)
        if rules.nsd_surfaces is not rules.surfaces:
            distances = rules.nsd_surfaces(reference, prediction, spacing=spacing)
        nsd = rules.nsd(distances)

    lesions = score_lesions(reference, prediction, spacing=spacing, rules=rules)
    return RegionMetrics(
        region=name,
        dice=dice,
        hd95_mm=hd95,
        nsd=nsd,
        sensitivity=common / positive if positive else rules.empty_sensitivity[predicted > 0],
        specificity=1 - (predicted - common) / negative if negative else math.nan,
        precision=common / predicted if predicted else math.nan,
        reference_ml=positive * voxel_ml,
        prediction_ml=predicted * voxel_ml,
        lesion_dice=lesions.dice,
        lesion_hd95_mm=lesions.hd95,
        lesion_nsd=lesions.nsd,
        lesions=lesions.reference,
        lesions_missed=lesions.missed,
        lesions_false=lesions.false,
    )
