"""NIfTI files in and out; gzip goes through ISA-L, which is several times as fast as zlib."""

from __future__ import annotations

import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.filebasedimages import ImageFileError

# what reading a file that is damaged, or no image, may raise
READ_ERRORS = (ValueError, OSError, EOFError, zlib.error, isal_zlib.error, ImageFileError)


def load_nifti(path: Path) -> nib.Nifti1Image:
    """Open a NIfTI file; nothing but its header is read.

    Raises:
        ValueError: if it is another kind of image.
    """
    image = nib.load(path)
    if not isinstance(image, nib.Nifti1Image):
        raise ValueError("is no NIfTI image")
    return image


def read_voxels(path: Path) -> np.ndarray:
    """All voxels of a NIfTI file, scaled as its header says; raises one of READ_ERRORS."""
    image = load_nifti(path)
    if path.suffix.lower() == ".gz":
        image = type(image).from_bytes(igzip.decompress(path.read_bytes()))
    return np.asanyarray(image.dataobj)


def compressed_nifti(image: nib.Nifti1Image) -> bytes:
    """What a .nii.gz file of the image holds; equal images give equal bytes."""
    # level 3 is many times as slow, and no smaller on labels
    return igzip.compress(image.to_bytes(), 2, mtime=0)


def write_compressed(content: bytes, path: Path) -> None:
    """Write what `compressed_nifti` gives to a .nii.gz file, or to a .nii file."""
    path.write_bytes(content if path.suffix.lower() == ".gz" else igzip.decompress(content))


def nifti_image(voxels: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    """A NIfTI image of these voxels, of their own dtype, in mm."""
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    return image
