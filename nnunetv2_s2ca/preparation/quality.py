"""Numbers that tell a registration that worked from one that failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from nnunetv2_s2ca.preparation.registration import (
    Registration,
    as_affine,
    at_spacing,
    mutual_information,
)

SPACING = 4.0  # mm, on which all is measured
DISPLACEMENT = 10.0  # mm
FOREGROUND = 0.15  # of the 99th percentile
CLOSED = 4  # voxels; wider than the skull, which is dark and open at the neck
LEAST_CONTRAST = 0.08
LEAST_OVERLAP = 0.7
SCALES = (0.75, 1.3)  # of adults' heads beside an atlas


@dataclass(frozen=True)
class Quality:
    """Measures of a registration.

    Attributes:
        information: Mattes' mutual information in nats, on the finest level.
        contrast: The least share of it that is lost when the moving image is displaced by 10 mm
            along an axis; 0 or less where the images do not fit.
        overlap: Dice of head and head, or brain and brain, within the field of view of both.
        scales: The singular values of the transform; 1, 1, 1 if it is rigid.
    """

    information: float
    contrast: float
    overlap: float
    scales: tuple[float, float, float]

    def warnings(self) -> Iterator[str]:
        """What makes the registration look failed."""
        if self.contrast < LEAST_CONTRAST:
            yield (
                f"{DISPLACEMENT:g} mm aside, the mutual information is still "
                f"{1 - self.contrast:.0%} of that found; expected at most {1 - LEAST_CONTRAST:.0%}"
            )
        if self.overlap < LEAST_OVERLAP:
            yield f"Dice of the outlines is {self.overlap:.2f}; expected {LEAST_OVERLAP} or more"
        if not (SCALES[0] <= min(self.scales) and max(self.scales) <= SCALES[1]):
            shown = ", ".join(f"{scale:.2f}" for scale in self.scales)
            yield f"it is scaled by {shown}; expected {SCALES[0]} to {SCALES[1]}"


def measure(fixed: sitk.Image, moving: sitk.Image, registration: Registration) -> Quality:
    """Measure a registration of two float32 images."""
    coarse, other = at_spacing(fixed, SPACING), at_spacing(moving, SPACING)
    transform = registration.transform
    best = mutual_information(coarse, other, transform)
    displaced = [mutual_information(coarse, other, near) for near in _displaced(transform)]
    lost = 1 - max(displaced) / best if best > 0 else 0.0
    matrix = np.reshape(transform.GetMatrix(), (3, 3))
    scales = np.linalg.svd(matrix, compute_uv=False).tolist()
    overlap = _overlap(coarse, other, transform)
    return Quality(registration.information, float(lost), overlap, tuple(scales))


def _displaced(transform: sitk.AffineTransform) -> Iterator[sitk.AffineTransform]:
    for shift in DISPLACEMENT * np.vstack([np.eye(3), -np.eye(3)]):
        near = as_affine(transform)
        near.SetTranslation((np.array(transform.GetTranslation()) + shift).tolist())
        yield near


def _overlap(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> float:
    """Dice of two foregrounds within the moving image's field of view."""
    seen = sitk.Image(moving.GetSize(), sitk.sitkUInt8) + 1
    seen.CopyInformation(moving)
    head, other, inside = (
        sitk.GetArrayFromImage(sitk.Resample(image, fixed, where, sitk.sitkNearestNeighbor, 0))
        for image, where in (
            (_foreground(fixed), sitk.Transform()),
            (_foreground(moving), transform),
            (seen, transform),
        )
    )
    both = int((head & other & inside).sum())
    total = int((head & inside).sum() + (other & inside).sum())
    return 2 * both / total if total else 0.0


def _foreground(image: sitk.Image) -> sitk.Image:
    """The head, or the brain, without holes, uint8."""
    voxels = sitk.GetArrayViewFromImage(image)
    low, high = np.percentile(voxels, (1, 99)).tolist()
    bright = image > low + FOREGROUND * (high - low)
    without_specks = sitk.BinaryMorphologicalOpening(bright, [1] * 3)
    closed = sitk.BinaryMorphologicalClosing(without_specks, [CLOSED] * 3)
    return sitk.BinaryFillhole(closed)
