"""Turning an image to another orientation by exchanging and flipping axes, and back."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
import SimpleITK as sitk

ORIENTATIONS = tuple(
    "".join(letters) for axes in permutations(("LR", "PA", "SI")) for letters in product(*axes)
)  # the 48


@dataclass(frozen=True)
class Turn:
    """How an image was turned; its voxels are exchanged, never interpolated.

    Attributes:
        order: Axis of the former array for each axis of the new one; arrays are `(Z, Y, X)`.
        flipped: Axes of the new array that were flipped after that.
    """

    order: tuple[int, ...]
    flipped: tuple[int, ...]

    def undo(self, voxels: np.ndarray) -> np.ndarray:
        """Turn an array `(Z, Y, X)`, or `(C, Z, Y, X)`, of the new orientation back."""
        first = voxels.ndim - 3
        former = np.flip(voxels, tuple(first + axis for axis in self.flipped))
        back = [first + int(axis) for axis in np.argsort(self.order)]
        return former.transpose(*range(first), *back)


def orientation_of(image: sitk.Image) -> str:
    """Where the axes point, such as `LPS`: to the patient's left, back and top.

    An oblique axis counts as the closest direction.
    """
    directions = image.GetDirection()
    return str(sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(directions))


def turn(image: sitk.Image, orientation: str) -> tuple[sitk.Image, Turn]:
    """Turn an image so that its axes point where `orientation` says, as closely as they can.

    The grid of an oblique image stays oblique.

    Args:
        image: A 3D image.
        orientation: One of `ORIENTATIONS`.
    """
    turner = sitk.DICOMOrientImageFilter()
    turner.SetDesiredCoordinateOrientation(orientation)
    turned = turner.Execute(image)
    # SimpleITK counts from x, arrays from z
    order = tuple(2 - axis for axis in reversed(turner.GetPermuteOrder()))
    flipped = tuple(axis for axis in range(3) if turner.GetFlipAxes()[2 - axis])
    return turned, Turn(order, flipped)
