"""Other ways to store one image, by nibabel, and comparing labels."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform


def reoriented(image: nib.Nifti1Image, code: str) -> nib.Nifti1Image:
    """The same image with other axes."""
    change = ornt_transform(io_orientation(image.affine), axcodes2ornt(tuple(code)))
    voxels = nib.orientations.apply_orientation(np.asarray(image.dataobj), change)
    return nib.Nifti1Image(voxels, image.affine @ inv_ornt_aff(change, image.shape))


def tilted(image: nib.Nifti1Image, degrees: float) -> nib.Nifti1Image:
    """The same voxels in a grid that is tilted about two axes."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    about_x = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    affine = image.affine.copy()
    affine[:3, :3] = about_x[::-1, ::-1] @ about_x @ affine[:3, :3]
    return nib.Nifti1Image(image.dataobj, affine)


def stored_as(scans: dict[str, Path], folder: Path, change) -> dict[str, Path]:
    """Save each scan as `change(image)` gives it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in scans.items():
        nib.save(change(nib.load(path)), folder / f"{name}.nii.gz")
    return {name: folder / f"{name}.nii.gz" for name in scans}


def labels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * np.count_nonzero(one & other) / (one.sum() + other.sum()))
