"""Carrying a segmentation from the atlas' space back to the scanner's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.imaging.grids import same_grid
from nnunetv2_s2ca.imaging.scans import Scan
from nnunetv2_s2ca.preparation.record import (
    VOXELS,
    prepared_grid,
    read_content,
    read_native,
    voxel_digest,
)

MOST_LABELS = 64  # a segmentation has few


def to_native(segmentation: sitk.Image, transforms: Path, *, sequence: str = "T1ce") -> sitk.Image:
    """A segmentation of prepared images on the grid of a sequence as the scanner gave it.

    Each label is interpolated linearly, and a voxel gets the label with the largest share, so that
    borders stay smooth.

    Args:
        segmentation: Labels from 0 to 255 on the grid of the prepared images.
        transforms: The folder `transforms` beside those images.
        sequence: "T1", "T1ce", "T2" or "FLAIR".

    Returns:
        uint8 labels on the sequence's grid.

    Raises:
        UserError: The folder or the sequence is missing or damaged, the segmentation has another
            grid, or it holds no labels.
    """
    native = read_native(transforms, sequence)
    expected = prepared_grid(transforms)
    if not same_grid(segmentation, expected):
        raise UserError(
            f"the segmentation has the shape {segmentation.GetSize()} and another place than the "
            f"prepared images ({expected.GetSize()}); expected a segmentation of the images beside "
            f"{transforms}"
        )
    return carried(segmentation, native.grid, native.transform.GetInverse())


def odd_about_prepared(scan: Scan, transforms: Path, sequence: str) -> Iterator[str]:
    """What speaks against results for a scan being carried back by these transforms.

    Args:
        scan: A prepared image, or one that was made from it.
        transforms: The folder `transforms` beside those images.
        sequence: "T1", "T1ce", "T2" or "FLAIR".

    Raises:
        UserError: The folder or the sequence is missing or damaged, or the scan has another grid.
    """
    read_native(transforms, sequence)
    expected = prepared_grid(transforms)
    if not same_grid(scan.image, expected):
        raise UserError(
            f"{scan.path} ({scan.image.GetSize()} voxels) lies on another grid than the images "
            f"prepared with {transforms} ({expected.GetSize()}); expected the images beside that "
            "folder"
        )
    digest = read_content(transforms)["sequences"][sequence].get(VOXELS)
    if digest is not None and digest != voxel_digest(scan.voxels):
        yield (
            f"{scan.path} is not the {sequence} that was prepared with {transforms}: it was "
            "changed since, or is another patient's. Transforms of another patient put the "
            "tumour in the wrong place"
        )


def carried(labels: sitk.Image, grid: sitk.Image, transform: sitk.Transform) -> sitk.Image:
    """Labels on another grid, uint8.

    Args:
        labels: Whole numbers from 0 to 255.
        grid: An image on the wanted grid.
        transform: From points of the grid to points of the labels.

    Raises:
        UserError: The image holds other numbers, or too many different ones.
    """
    values = np.unique(sitk.GetArrayViewFromImage(labels))
    if len(values) > MOST_LABELS or not np.isin(values, np.arange(256)).all():
        raise UserError(
            f"the segmentation holds {len(values)} values from {values[0]:g} to {values[-1]:g}; "
            f"expected at most {MOST_LABELS} labels from 0 to 255"
        )
    best = np.zeros(grid.GetSize()[::-1], np.uint8)
    rest = np.ones(best.shape, np.float32)  # the share of the background
    shares: list[tuple[int, np.ndarray]] = []
    for value in values[values > 0]:
        part = sitk.Cast(labels == float(value), sitk.sitkFloat32)
        moved = sitk.Resample(part, grid, transform, sitk.sitkLinear, 0.0)
        shares.append((int(value), sitk.GetArrayFromImage(moved)))
        rest -= shares[-1][1]
    for value, share in shares:
        won = share > rest
        best[won], rest[won] = value, share[won]
    result = sitk.GetImageFromArray(best)
    result.CopyInformation(grid)
    return result
