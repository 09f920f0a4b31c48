"""Find and read segmentation files and compare their geometry."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunetv2_s2ca.core.errors import UserError, disk_errors_named
from nnunetv2_s2ca.core.nifti import FILE_ENDINGS, READ_ERRORS, load_nifti, read_voxels
from nnunetv2_s2ca.evaluation.surfaces import Spacing

# BraTS' suffixes of segmentations: `_seg`, since 2023 `-seg`, in radiotherapy `_gtv`
SUFFIX = re.compile(r"[_-](seg|gtv)\Z", re.IGNORECASE)

# Headers of the same grid may differ by float32 rounding, in mm and in direction cosines.
GEOMETRY_TOLERANCE = 1e-3


@disk_errors_named("read")
def find_segmentations(folder: Path) -> dict[str, Path]:
    """The segmentations of a folder by case identifier, sorted.

    Either files `<case>.nii.gz` or `.nii` in the folder itself, as nnU-Net writes them, or, if it
    has none, files `<case>_seg`, `<case>-seg` or `<case>_gtv` anywhere below it, as in BraTS.

    Raises:
        UserError: The folder does not exist, holds no segmentation, or holds two of the same case.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; expected a folder of segmentations")
    files = [path for path in sorted(folder.iterdir()) if _is_image(path)]
    if not files:
        files = [
            path
            for path in sorted(folder.rglob("*"))
            if _is_image(path) and SUFFIX.search(_stem(path))
        ]
    cases: dict[str, Path] = {}
    for path in files:
        case = SUFFIX.sub("", _stem(path))
        if case in cases:
            raise UserError(f"case {case} has two segmentations: {cases[case]} and {path}")
        cases[case] = path
    if not cases:
        raise UserError(
            f"{folder} holds no segmentation; expected files such as CASE.nii.gz in it, or "
            "CASE_seg.nii.gz below it"
        )
    return dict(sorted(cases.items()))


def read_labels(path: Path) -> tuple[np.ndarray, nib.Nifti1Image]:
    """Labels of a segmentation file, and the image that holds its geometry.

    ITK is not used since it silently reads the missing part of a truncated gzip file as zeros.

    Returns:
        Integers of shape `(H, W, D)` in the file's axis order, and the image.

    Raises:
        UserError: The file cannot be read, is not 3D, or holds a value that is not an integer.
    """
    try:
        image, values = load_nifti(path), read_voxels(path)
    except READ_ERRORS as error:
        raise UserError(f"{path} cannot be read as NIfTI; it may be damaged: {error}") from error
    if values.ndim != 3:
        raise UserError(f"{path}: expected a 3D image of labels, found shape {values.shape}")
    if np.issubdtype(values.dtype, np.integer):
        return values, image
    if not np.issubdtype(values.dtype, np.floating):
        raise UserError(f"{path}: expected whole numbers as labels, found {values.dtype}")
    with np.errstate(invalid="ignore"):
        labels = values.astype(np.int32)
    if not np.array_equal(labels, values):
        raise UserError(f"{path}: expected whole numbers as labels, found fractions")
    return labels, image


def spacing_of(image: nib.Nifti1Image) -> Spacing:
    """Voxel size in mm along each axis of the array that `read_labels` returns."""
    first, second, third = (float(size) for size in image.header.get_zooms()[:3])
    return (first, second, third)


def geometry_difference(reference: nib.Nifti1Image, prediction: nib.Nifti1Image) -> str | None:
    """How the grids of two images differ, in words; `None` if they are the same."""
    if reference.shape != prediction.shape:
        return f"shape {prediction.shape}, but the reference has {reference.shape}"
    for what, expected, found in (
        ("spacing", spacing_of(reference), spacing_of(prediction)),
        ("origin", reference.affine[:3, 3], prediction.affine[:3, 3]),
        ("affine", reference.affine[:3, :3].ravel(), prediction.affine[:3, :3].ravel()),
    ):
        if not np.allclose(expected, found, rtol=0, atol=GEOMETRY_TOLERANCE):
            return f"{what} {_rounded(found)}, but the reference has {_rounded(expected)}"
    return None


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)


def _is_image(path: Path) -> bool:
    # macOS leaves files `._name` beside copied files
    return path.is_file() and path.name.endswith(FILE_ENDINGS) and not path.name.startswith(".")


def _stem(path: Path) -> str:
    ending = next(ending for ending in FILE_ENDINGS if path.name.endswith(ending))
    return path.name.removesuffix(ending)
