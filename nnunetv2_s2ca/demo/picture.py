"""A picture of the demo's predictions beside the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nnunetv2_s2ca.demo.scores import read_volume, score_case, truth_of
from nnunetv2_s2ca.reporting.slices import PatientSlices, draw_slices

# BraTS' label → nnU-Net's
BRATS_TO_NNUNET = np.array([0, 2, 1, 0, 3])
MOST_CASES = 4  # that fit a page


def draw_predictions(predictions: Path, brats: Path, output: Path) -> None:
    """Draw slices of the first few predicted cases: FLAIR, T1ce, truth, prediction.

    Args:
        predictions: Folder with `<case>.nii.gz` in nnU-Net's labels.
        brats: BraTS 2019 folder with the cases and their truth.
        output: PNG file to write.
    """
    paths = sorted(predictions.glob("*.nii.gz"))[:MOST_CASES]
    draw_slices([read_case(brats, {"prediction": path}) for path in paths], output)


def read_case(brats: Path, predictions: dict[str, Path]) -> PatientSlices:
    """A patient's images, truth and predictions, each prediction with its Dice below.

    Args:
        brats: BraTS 2019 folder with the case.
        predictions: Heading → `<case>.nii.gz` in nnU-Net's labels, all of the same case.
    """
    path = next(iter(predictions.values()))
    case, truth_path = path.name.removesuffix(".nii.gz"), truth_of(path, brats)
    true = read_volume(truth_path)
    predicted = {heading: read_volume(path) for heading, path in predictions.items()}
    captions = {}
    for heading, labels in predicted.items():
        scores = score_case(labels, true)
        captions[heading] = "  ".join(f"{name} {dice:.2f}" for name, dice in scores.items())
    return PatientSlices(
        name=case,
        images={
            title: read_volume(truth_path.with_name(f"{case}_{modality}.nii.gz"))
            for title, modality in (("FLAIR", "flair"), ("T1ce", "t1ce"))
        },
        segmentations={"truth": BRATS_TO_NNUNET[true], **predicted},
        captions=captions,
    )
