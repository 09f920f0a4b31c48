"""What the viewer's page is told about a case, and the layer of differences."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.nifti import READ_ERRORS, load_nifti
from nnunetv2_s2ca.evaluation.segmentations import geometry_difference, read_labels
from nnunetv2_s2ca.reporting.case_files import CaseFiles
from nnunetv2_s2ca.viewer.cases import ViewedCase

SEGMENTATIONS = ("truth", "prediction", "difference")
DIFFERENCES = {1: "missed", 2: "false", 3: "other label"}
# nnU-Net's labels in BraTS datasets, in the colours of the report's outlines
COLOURS = (
    *((240, 228, 66), (255, 122, 51), (98, 195, 250), (240, 160, 207)),
    *((79, 224, 173), (255, 255, 255), (201, 168, 255), (255, 192, 77)),
)
DIFFERENCE_COLOURS = ((255, 122, 51), (98, 195, 250), (240, 228, 66))


def describe(case: ViewedCase, address: Callable[[ViewedCase, str], str]) -> dict[str, Any]:
    """The case for the page: name, score, and the address of each layer.

    Args:
        case: the case.
        address: gives a layer its address.
    """
    layers = [*case.paths, *(["difference"] if _comparable(case.files) else [])]
    return {
        "name": case.files.case,
        "dice": None if math.isnan(case.dice) else case.dice,
        "layers": {layer: address(case, layer) for layer in layers},
        "sequences": list(case.files.images),
        "labels": _label_names(case),
    }


def difference(files: CaseFiles) -> bytes:
    """A gzipped NIfTI image: 1 where only the truth has tumour, 2 where only the prediction has.

    3 is where both have other labels.

    Raises:
        UserError: A file is damaged, or the grids differ.
    """
    if files.truth is None or files.prediction is None:
        raise UserError(f"{files.case}: a difference needs truth and prediction")
    truth, image = read_labels(files.truth)
    prediction, other = read_labels(files.prediction)
    differing = geometry_difference(image, other)
    if differing is not None:
        raise UserError(f"{files.prediction} has {differing}")
    result = np.zeros(truth.shape, np.uint8)
    result[(truth != 0) & (prediction == 0)] = 1
    result[(truth == 0) & (prediction != 0)] = 2
    result[(truth != 0) & (prediction != 0) & (truth != prediction)] = 3
    return gzip.compress(nib.Nifti1Image(result, image.affine).to_bytes(), 1, mtime=0)


def _comparable(files: CaseFiles) -> bool:
    if files.truth is None or files.prediction is None:
        return False
    try:
        return geometry_difference(load_nifti(files.truth), load_nifti(files.prediction)) is None
    except READ_ERRORS:  # named before
        return False


def _label_names(case: ViewedCase) -> dict[int, str]:
    """Label → the smallest region that holds it, such as ET for 3."""
    names = {}
    for region in sorted(case.scheme.regions if case.scheme else (), key=lambda r: -len(r.labels)):
        for label in region.labels:
            names[label] = region.name
    return names
