"""One patient: registration, skull stripping, one resampling per sequence, and the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunetv2_s2ca.imaging.scans import Scan, header_of, nifti_bytes
from nnunetv2_s2ca.preparation.atlas import Atlas
from nnunetv2_s2ca.preparation.bias_field import without_bias_field
from nnunetv2_s2ca.preparation.picture import draw_quality
from nnunetv2_s2ca.preparation.quality import Quality, measure
from nnunetv2_s2ca.preparation.record import VOXELS, Native, grid_of, voxel_digest, write_record
from nnunetv2_s2ca.preparation.registration import Registration, after, as_matrix, register

REFERENCES = ("T1ce", "T1", "T2", "FLAIR")  # the first one that there is


@dataclass(frozen=True)
class Prepared:
    """A patient in the atlas' space.

    Attributes:
        images: Sequence, such as `T1ce` → `(Z, Y, X)` float32, 0 outside the brain.
        natives: Sequence → its grid and its transform.
        qualities: Sequence → how well it was registered; that of the reference is to the atlas.
        reference: The sequence to which the others were registered.
    """

    images: Mapping[str, np.ndarray]
    natives: Mapping[str, Native]
    qualities: Mapping[str, Quality]
    reference: str

    def warnings(self) -> Iterator[str]:
        """Which registrations look failed, and why."""
        for name, quality in self.qualities.items():
            target = "the atlas" if name == self.reference else self.reference
            for reason in quality.warnings():
                yield (
                    f"the registration of {name} to {target} looks failed: {reason}. Look "
                    "at quality.png"
                )

    @property
    def volume_factor(self) -> float:
        """Native mm³ per mm³ in the atlas' space, since the affine transform scales the head."""
        to_native = as_matrix(self.natives[self.reference].transform)
        return float(abs(np.linalg.det(to_native[:3, :3])))


def reference_of(names: Mapping[str, object]) -> str:
    """The sequence to which the others are registered."""
    return next(name for name in REFERENCES if name in names)


def prepare_case(
    scans: Mapping[str, Scan],
    brain: sitk.Image | None,
    atlas: Atlas,
    *,
    bias_field: bool,
    say: Callable[[str], None],
) -> Prepared:
    """Bring the sequences of a patient to an atlas.

    Args:
        scans: Sequence, such as `T1ce` → scan.
        brain: Mask on the reference's grid; None if the scans have no skull.
        atlas: Where to.
        bias_field: Correct it before registrations.
        say: Receives a line per step.
    """
    reference = reference_of(scans)
    sources = {
        name: without_bias_field(scan.image) if bias_field else scan.image
        for name, scan in scans.items()
    }
    fixed = sources[reference]
    say(f"registering {reference} to the atlas")
    stripped = fixed if brain is None else sitk.Mask(fixed, brain)
    to_reference = register(atlas.image, stripped, affine=True)
    found: dict[str, Registration] = {}
    qualities = {reference: measure(atlas.image, stripped, to_reference)}
    for name in scans.keys() - {reference}:
        say(f"registering {name} to {reference}")
        found[name] = register(fixed, sources[name])
        qualities[name] = measure(fixed, sources[name], found[name])
    natives = {
        name: Native(
            sitk.Cast(scan.image * 0, sitk.sitkUInt8),
            after(to_reference.transform, found[name].transform)
            if name in found
            else to_reference.transform,
        )
        for name, scan in scans.items()
    }
    inside = _inside(brain, atlas.image, to_reference.transform)
    images = {}
    for name, scan in scans.items():
        transform = natives[name].transform
        moved = sitk.Resample(scan.image, atlas.image, transform, sitk.sitkLinear, 0.0)
        images[name] = sitk.GetArrayFromImage(moved) * inside
    return Prepared(images, natives, qualities, reference)


def write_case(
    folder: Path,
    prepared: Prepared,
    atlas: Atlas,
    *,
    names: Mapping[str, str],
    about: Mapping[str, Any],
) -> None:
    """Write the images, `transforms/` and `quality.png`.

    Args:
        folder: New and empty.
        prepared: The patient.
        atlas: Where the images are.
        names: Sequence → name of its file.
        about: What else the record holds.
    """
    header = header_of(atlas.image)
    for name, voxels in prepared.images.items():
        (folder / names[name]).write_bytes(nifti_bytes(voxels, header))
    content = {
        **about,
        "atlas": {"name": atlas.name, "sha256": atlas.sha256},
        "grid": grid_of(atlas.image),
        "reference": prepared.reference,
        "volume_factor": prepared.volume_factor,
        "sequences": {
            name: {"quality": asdict(quality), VOXELS: voxel_digest(prepared.images[name])}
            for name, quality in prepared.qualities.items()
        },
    }
    write_record(folder / "transforms", prepared.natives, content)
    below = dict.fromkeys(prepared.images, prepared.images[prepared.reference])
    below[prepared.reference] = sitk.GetArrayFromImage(atlas.image)
    pairs = {
        f"edges of {name} over "
        f"{'the atlas' if name == prepared.reference else prepared.reference}": (
            below[name],
            prepared.images[name],
        )
        for name in REFERENCES
        if name in prepared.images
    }
    draw_quality(pairs, folder / "quality.png")


def _inside(
    brain: sitk.Image | None, grid: sitk.Image, transform: sitk.Transform
) -> np.ndarray | int:
    """1 in the brain, 0 elsewhere, on the atlas' grid."""
    if brain is None:
        return 1
    share = sitk.Resample(sitk.Cast(brain, sitk.sitkFloat32), grid, transform, sitk.sitkLinear, 0.0)
    return sitk.GetArrayFromImage(share) > 0.5
