"""Synthetic patients on disk, laid out and named as the training set of BraTS 2019 is."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from nnunetv2_s2ca.synthetic.patient import Patient, make_patient
from nnunetv2_s2ca.synthetic.tumour import Grade

# BraTS 2019 has 259 high and 76 low grade patients
LOW_GRADE_EVERY = 4

CSV_COLUMNS = (
    "Grade",
    "BraTS_2017_subject_ID",
    "BraTS_2018_subject_ID",
    "TCGA_TCIA_subject_ID",
    "BraTS_2019_subject_ID",
)


def write_brats2019(
    folder: Path,
    *,
    patients: int,
    seed: int = 0,
    first: int = 1,
    shape: tuple[int, int, int] = (64, 72, 56),
    spacing: float = 3.0,
    with_segmentation: bool = True,
    make: Callable[..., Patient] = make_patient,
) -> list[Path]:
    """Write synthetic patients; every fourth of them is low grade.

    The files are `<folder>/{HGG,LGG}/BraTS19_SYN_001_1/BraTS19_SYN_001_1_{t1,t1ce,t2,flair,seg}
    .nii.gz` and `<folder>/name_mapping.csv`, the same bytes for the same arguments.

    Args:
        folder: made if it does not exist.
        patients: how many.
        seed: a patient follows from it and from the patient's number.
        first: number of the first patient.
        shape: voxels (X, Y, Z), see `make_patient`.
        spacing: mm.
        with_segmentation: leave the `_seg` files out otherwise, as the validation set does.
        make: draws a patient; called as `make_patient` is.

    Returns:
        The folder of each patient.
    """
    folder = Path(folder)
    rows: list[tuple[str, ...]] = []
    folders = []
    for number in range(first, first + patients):
        grade: Grade = "LGG" if number % LOW_GRADE_EVERY == 0 else "HGG"
        # numbers of neighbouring seeds must not meet
        own_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        patient = make(own_seed, shape=shape, spacing=spacing, grade=grade)
        case = f"BraTS19_SYN_{number:03d}_1"
        target = folder / grade / case
        target.mkdir(parents=True, exist_ok=True)
        for modality, image in patient.images.items():
            _save(image, patient.affine, target / f"{case}_{modality}.nii.gz")
        if with_segmentation:
            _save(patient.segmentation, patient.affine, target / f"{case}_seg.nii.gz")
        rows.append((grade, "NA", "NA", "NA", case))
        folders.append(target)
    with (folder / "name_mapping.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([CSV_COLUMNS, *rows])
    return folders


def _save(volume: NDArray, affine: NDArray, path: Path) -> None:
    image = nib.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    nib.save(image, path)
