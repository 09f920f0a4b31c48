"""Whether two images share a grid, and bringing one to another's."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from nnunetv2_s2ca.dataset_conversion.geometry import corner_distance
from nnunetv2_s2ca.imaging.scans import affine_of

SAME = 0.01  # of the smallest voxel size: the largest distance of corners of one grid


def same_grid(image: sitk.Image, other: sitk.Image) -> bool:
    """Whether two images have the same voxels in space, but for rounding."""
    if image.GetSize() != other.GetSize():
        return False
    distance = corner_distance(image.GetSize(), affine_of(image), affine_of(other))
    return distance < SAME * min(image.GetSpacing())


def resample(image: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """Interpolate an image linearly on another's grid; 0 where it does not reach.

    Where the nearest voxel is 0 the result is 0, so that a stripped brain gets no fringe: nnU-Net
    normalises over all that is not 0.
    """
    still = sitk.Transform()
    interpolated = sitk.Resample(image, grid, still, sitk.sitkLinear, 0.0, image.GetPixelID())
    shown = sitk.Resample(image != 0, grid, still, sitk.sitkNearestNeighbor, 0)
    return sitk.Mask(interpolated, shown)


def coverage(image: sitk.Image, grid: sitk.Image) -> float:
    """The share of another image's voxels above 0 that lie within this image's field of view."""
    inside = sitk.Image(image.GetSize(), sitk.sitkUInt8) + 1
    inside.CopyInformation(image)
    reached = sitk.Resample(inside, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    shown = sitk.GetArrayViewFromImage(grid) > 0
    if not shown.any():
        shown = np.ones_like(shown)
    return float(sitk.GetArrayViewFromImage(reached)[shown].mean())
