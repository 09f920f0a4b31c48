"""Predictions in nnU-Net's labels that equal the truth of synthetic patients."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

BRATS_TO_NNUNET = {0: 0, 1: 2, 2: 1, 4: 3}


def write_perfect_predictions(brats: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    for path in brats.glob("*/*/*_seg.nii.gz"):
        truth = nib.load(path)
        labels = np.vectorize(BRATS_TO_NNUNET.get)(np.asarray(truth.dataobj)).astype(np.uint8)
        nib.save(nib.Nifti1Image(labels, truth.affine), folder / f"{path.parent.name}.nii.gz")
