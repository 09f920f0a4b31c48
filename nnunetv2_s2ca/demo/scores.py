"""Dice of the demo's predictions against the synthetic truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.nifti import READ_ERRORS
from nnunetv2_s2ca.synthetic.tumour import ENHANCING, NECROSIS, OEDEMA

# region → BraTS' labels of the truth and nnU-Net's of predictions; stated here again, so that a
# mistake in the conversion would show in the scores
REGIONS: Mapping[str, tuple[Sequence[int], Sequence[int]]] = {
    "WT": ((NECROSIS, OEDEMA, ENHANCING), (1, 2, 3)),
    "TC": ((NECROSIS, ENHANCING), (2, 3)),
    "ET": ((ENHANCING,), (3,)),
}

Scores = Mapping[str, float]


def score_folder(predictions: Path, brats: Path) -> Scores:
    """Mean Dice of each region over the predictions in a folder.

    Args:
        predictions: Folder with `<case>.nii.gz` in nnU-Net's labels.
        brats: BraTS 2019 folder with the cases and their truth.

    Raises:
        UserError: There is no prediction, or a file cannot be read.
    """
    paths = sorted(predictions.glob("*.nii.gz"))
    if not paths:
        raise UserError(f"{predictions} holds no predictions; delete the demo and run it again")
    cases = [score_case(read_volume(path), read_volume(truth_of(path, brats))) for path in paths]
    return {region: float(np.mean([case[region] for case in cases])) for region in REGIONS}


def score_case(prediction: NDArray, truth: NDArray) -> Scores:
    """Dice of each region; 1 if both are empty, as in BraTS up to 2022.

    Args:
        prediction: (X, Y, Z), nnU-Net's labels 0, 1, 2, 3.
        truth: (X, Y, Z), labels 0, 1, 2, 4.
    """
    return {
        region: _dice(np.isin(prediction, predicted), np.isin(truth, true))
        for region, (true, predicted) in REGIONS.items()
    }


def truth_of(prediction: Path, brats: Path) -> Path:
    """The truth of a predicted case."""
    case = prediction.name.removesuffix(".nii.gz")
    found = list(brats.glob(f"*/{case}/{case}_seg.nii.gz"))
    if not found:
        raise UserError(f"{brats} holds no patient {case}; delete the demo and run it again")
    return found[0]


def read_volume(path: Path) -> NDArray:
    """The voxels (X, Y, Z) of a NIfTI file."""
    try:
        return np.asarray(nib.load(path).dataobj)  # type: ignore[attr-defined]
    except READ_ERRORS as error:
        raise UserError(
            f"{path} cannot be read ({error}); delete the demo and run it again"
        ) from error


def _dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    total = int(first.sum() + second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0
