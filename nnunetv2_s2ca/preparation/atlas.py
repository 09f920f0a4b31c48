"""The space to which patients are brought."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunetv2_s2ca.imaging.scans import read_scan

ORIENTATION = "LPS"  # BraTS' axes: to the patient's left, back and top
MNI152 = "MNI152 2009a, symmetric, as in nilearn"
OWN = "a file of the user's"
LEAST_BACKGROUND = 0.3  # of a skull-stripped atlas' voxels


@dataclass(frozen=True)
class Atlas:
    """A skull-stripped head on the grid that all prepared images get.

    Attributes:
        image: float32, axes as in BraTS.
        name: What it is.
        sha256: Of its voxels.
        warnings: What is odd about it.
    """

    image: sitk.Image
    name: str
    sha256: str
    warnings: tuple[str, ...] = ()


def read_atlas(path: Path | None) -> Atlas:
    """Read an atlas.

    Args:
        path: A skull-stripped T1 or T1ce image; the MNI152 template at 1 mm if None, which nilearn
            brings with it. BraTS uses SRI24 (Rohlfing et al., Human Brain Mapping 2010).

    Raises:
        UserError: The file cannot be read, or is empty.
    """
    if path is None:
        return _atlas(_mni152(), MNI152)
    image = read_scan(path).image
    warnings = []
    if (share := float((sitk.GetArrayViewFromImage(image) == 0).mean())) < LEAST_BACKGROUND:
        warnings.append(
            f"{share:.0%} of the atlas' voxels are 0; expected a skull-stripped atlas, to which "
            "a brain without its skull can be registered"
        )
    if max(abs(size - 1) for size in image.GetSpacing()) > 0.01:
        sizes = " × ".join(f"{size:.3g}" for size in image.GetSpacing())
        warnings.append(f"the atlas has voxels of {sizes} mm; BraTS' images have 1 × 1 × 1 mm")
    return _atlas(image, OWN, *warnings)


def _mni152() -> sitk.Image:
    from nilearn.datasets import load_mni152_template  # slow to import

    template = load_mni152_template(resolution=1)
    image = sitk.GetImageFromArray(np.asarray(template.dataobj, np.float32).T)
    affine = np.diag([-1.0, -1, 1, 1]) @ template.affine  # to LPS
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def _atlas(image: sitk.Image, name: str, *warnings: str) -> Atlas:
    turned = sitk.DICOMOrient(image, ORIENTATION)
    digest = hashlib.sha256(sitk.GetArrayViewFromImage(turned).tobytes()).hexdigest()
    return Atlas(turned, name, digest, warnings)
