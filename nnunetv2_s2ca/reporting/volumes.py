"""Volumes of a case, turned so that pictures follow radiological convention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.nifti import READ_ERRORS, load_nifti, read_failure, read_voxels
from nnunetv2_s2ca.evaluation.segmentations import geometry_difference, read_labels

PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}


@dataclass(frozen=True)
class Volume:
    """A volume with axes to the patient's right, front and top (RAS).

    Attributes:
        voxels: `(X, Y, Z)`.
        spacing: size of a voxel in mm along each axis.
        image: the file's header and grid, to compare with others.
    """

    voxels: NDArray
    spacing: tuple[float, float, float]
    image: nib.Nifti1Image


def read_segmentation(path: Path) -> Volume:
    """Labels of a file.

    Raises:
        UserError: The file cannot be read or holds no labels.
    """
    voxels, image = read_labels(path)
    return _turned(voxels, image)


def read_image(path: Path, like: Volume) -> Volume:
    """Intensities of a file on the grid of a segmentation.

    Raises:
        UserError: The file cannot be read, is not 3D, or has another grid.
    """
    try:
        voxels, image = read_voxels(path), load_nifti(path)
    except READ_ERRORS as error:
        raise UserError(f"{path} {read_failure(error)}") from error
    if voxels.ndim != 3:
        raise UserError(f"{path}: expected a 3D image, found shape {voxels.shape}")
    difference = geometry_difference(like.image, image)
    if difference is not None:
        raise UserError(f"{path} has {difference.replace('the reference', 'the segmentation')}")
    return _turned(voxels, image)


def plane(volume: NDArray, name: str, index: int) -> NDArray:
    """A slice as seen on a screen: the patient's right (axial, coronal) or front at the left.

    Args:
        volume: `(X, Y, Z)` with axes to the right, front and top.
        name: one of `PLANES`.
        index: position along the axis across the plane.

    Returns:
        Rows from top (axial: front) to bottom, columns from left to right of the screen.
    """
    return np.take(volume, index, axis=PLANES[name]).T[::-1, ::-1]


def plane_spacing(spacing: tuple[float, float, float], name: str) -> tuple[float, float]:
    """Height and width in mm of a voxel in a slice."""
    across, up = (size for axis, size in enumerate(spacing) if axis != PLANES[name])
    return up, across


def tumour_slices(tumour: NDArray[np.bool_]) -> Iterator[tuple[str, int]]:
    """The slice of each plane with most of a mask `(X, Y, Z)`; the middle one if it is empty."""
    for name, axis in PLANES.items():
        areas = tumour.sum(axis=tuple(other for other in range(3) if other != axis))
        yield name, int(areas.argmax()) if areas.any() else tumour.shape[axis] // 2


def _turned(voxels: NDArray, image: nib.Nifti1Image) -> Volume:
    orientation = io_orientation(image.affine)
    sizes = np.array(image.header.get_zooms()[:3], dtype=float)
    order = np.argsort(orientation[:, 0])
    x, y, z = (float(size) for size in sizes[order])
    return Volume(apply_orientation(voxels, orientation), (x, y, z), image)
