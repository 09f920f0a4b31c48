"""Synthetic heads with a skull, each sequence moved by a known rigid transform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from nnunetv2_s2ca.synthetic.patient import make_patient

EXTENT = (220.0, 250.0, 220.0)  # mm
SCALP_SIGNAL = {"t1": 1.3, "t1ce": 1.3, "t2": 0.8, "flair": 0.6}  # of the brain's median
GAP, SKULL, SCALP = 2.0, 8.0, 14.0  # mm from the brain: where each layer ends
FURTHEST, STEEPEST = 20.0, 15.0  # mm, degrees
FLIP = np.diag([-1.0, -1, 1])  # between nibabel's coordinates and ITK's


@dataclass(frozen=True)
class Head:
    """A patient in the scanner.

    Attributes:
        images: Sequence → image on its own grid, float32.
        moves: Sequence → from points of the T1ce to points of the sequence, LPS, mm.
        brain: On the grid of the T1ce, uint8.
        tumour: Labels on the grid of the T1ce, uint8.
    """

    images: Mapping[str, sitk.Image]
    moves: Mapping[str, sitk.Transform]
    brain: sitk.Image
    tumour: sitk.Image

    def tumour_points(self, count: int = 40) -> list[tuple[float, ...]]:
        """Points of the tumour in the space of the T1ce."""
        indices = np.argwhere(sitk.GetArrayFromImage(self.tumour) > 0)[:, ::-1]
        chosen = indices[:: max(1, len(indices) // count)]
        return [
            self.tumour.TransformIndexToPhysicalPoint([int(n) for n in index]) for index in chosen
        ]


def make_head(seed: int, *, spacing: float = 4.0, skull: bool = True, moved: bool = True) -> Head:
    """A head whose T1, T2 and FLAIR are moved by up to 20 mm and 15 degrees."""
    shape = tuple(round(extent / spacing) for extent in EXTENT)
    patient = make_patient(seed, shape=shape, spacing=spacing)  # type: ignore[arg-type]
    rng = np.random.default_rng(seed)
    brain = patient.images["t1"] > 0
    images, moves = {}, {}
    for name, voxels in patient.images.items():
        voxels = voxels.astype(np.float32)
        if skull:
            voxels = with_skull(rng, voxels, brain, spacing=spacing, scalp=SCALP_SIGNAL[name])
        image = to_image(voxels, patient.affine)
        move = _draw(rng, image) if moved and name != "t1ce" else sitk.Euler3DTransform()
        images[name] = sitk.Resample(image, image, move.GetInverse(), sitk.sitkLinear, 0.0)
        moves[name] = move
    return Head(
        images,
        moves,
        to_image(brain.astype(np.uint8), patient.affine),
        to_image(patient.segmentation, patient.affine),
    )


def with_skull(
    rng: np.random.Generator,
    voxels: NDArray[np.float32],
    brain: NDArray[np.bool_],
    *,
    spacing: float,
    scalp: float,
) -> NDArray[np.float32]:
    """The brain within a dark skull, a bright scalp, and Rician noise."""
    distance = ndimage.distance_transform_edt(~brain) * spacing
    median = float(np.median(voxels[brain]))
    voxels = voxels.copy()
    voxels[(distance > GAP) & (distance <= SKULL)] = 0.08 * median
    voxels[(distance > SKULL) & (distance <= SCALP)] = scalp * median
    noise = rng.normal(0, 0.02 * median, (2, *voxels.shape))
    return np.hypot(voxels + noise[0], noise[1]).astype(np.float32)


def to_image(voxels: NDArray, affine: NDArray) -> sitk.Image:
    """An ITK image of an array (X, Y, Z) with nibabel's affine."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((FLIP @ affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((FLIP @ affine[:3, 3]).tolist())
    return image


def write_head(head: Head, folder: Path) -> dict[str, Path]:
    """Write the images, with the brain as `mask.nii.gz`; returns the sequences' files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"scan_{name}.nii.gz" for name in head.images}
    for name, path in files.items():
        sitk.WriteImage(head.images[name], str(path))
    sitk.WriteImage(head.brain, str(folder / "mask.nii.gz"))
    return files


def add_identity(path: Path) -> None:
    """Write a name and a date into a file's header."""
    image = nib.load(path)
    image = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[field] = b"Doe^John"
    extension = nib.nifti1.Nifti1Extension("comment", b"Doe^John 1970-01-01")
    image.header.extensions.append(extension)
    nib.save(image, path)


def coarse_atlas(path: Path, spacing: float = 4.0) -> Path:
    """The MNI152 template on a coarse grid, for fast tests."""
    from nilearn.datasets import load_mni152_template
    from nilearn.image import resample_img

    template = load_mni152_template(resolution=2)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = template.affine[:3, 3]
    coarse = resample_img(template, affine, copy_header=True, force_resample=True)
    voxels = np.asarray(coarse.dataobj, np.float32)
    nib.save(nib.Nifti1Image(np.where(voxels > 0.05, voxels, 0), coarse.affine), path)
    return path


def dice(one: NDArray, other: NDArray) -> float:
    """Of two masks."""
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def _draw(rng: np.random.Generator, image: sitk.Image) -> sitk.Euler3DTransform:
    """Of the largest shift and angle allowed along some axis."""
    shift, angles = (rng.uniform(-1, 1, 3) for _ in range(2))
    shift *= FURTHEST / np.linalg.norm(shift)
    angles *= np.deg2rad(STEEPEST) / np.abs(angles).max()
    middle = [(size - 1) / 2 for size in image.GetSize()]
    centre = image.TransformContinuousIndexToPhysicalPoint(middle)
    return sitk.Euler3DTransform(centre, *angles.tolist(), shift.tolist())
