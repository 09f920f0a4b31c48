"""Synthetic patients on disk, laid out and named like the training set of BraTS 2019."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from functools import partial
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
) -> list[Path]:
    """Write synthetic patients; every fourth is low grade.

    The files are `<folder>/{HGG,LGG}/BraTS19_SYN_001_1/BraTS19_SYN_001_1_{t1,t1ce,t2,flair,seg}
    .nii.gz` and `<folder>/name_mapping.csv`, the same bytes for the same arguments.

    Args:
        folder: Created if missing.
        patients: Number of patients.
        seed: Determines the patients, together with their numbers.
        first: Number of the first patient.
        shape: Voxels (X, Y, Z), see `make_patient`.
        spacing: In mm.

    Returns:
        The folder of each patient.
    """
    make = partial(make_patient, shape=shape, spacing=spacing)
    return write_patients(folder, make, numbers=range(first, first + patients), seed=seed)


def write_patients(
    folder: Path, make: Callable[..., Patient], *, numbers: Iterable[int], seed: int
) -> list[Path]:
    """As `write_brats2019`, but `make(seed, grade=...)` makes the patients."""
    folder = Path(folder)
    rows: list[tuple[str, ...]] = []
    folders = []
    for number in numbers:
        grade: Grade = "LGG" if number % LOW_GRADE_EVERY == 0 else "HGG"
        # so that neighbouring seeds have no patient in common
        own_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        patient = make(own_seed, grade=grade)
        case = f"BraTS19_SYN_{number:03d}_1"
        target = folder / grade / case
        target.mkdir(parents=True, exist_ok=True)
        volumes: dict[str, NDArray] = {**patient.images, "seg": patient.segmentation}
        for suffix, volume in volumes.items():
            _save(volume, patient.affine, target / f"{case}_{suffix}.nii.gz")
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
