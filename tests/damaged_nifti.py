"""NIfTI files that no reader takes; each function spoils the .nii.gz file that it is given."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np


def truncated(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def no_bytes(path: Path) -> None:
    path.write_bytes(b"")


def no_image(path: Path) -> None:
    path.write_text("a message of the download's server")


def unknown_datatype(path: Path) -> None:
    write_header(path, offset=70, value=struct.pack("<h", 9999))


def nine_dimensions(path: Path) -> None:
    write_header(path, offset=40, value=struct.pack("<h", 9))


def negative_dimension(path: Path) -> None:
    write_header(path, offset=42, value=struct.pack("<h", -5))


def no_planes(path: Path) -> None:
    write_header(path, offset=46, value=struct.pack("<h", 0))


def immense_dimensions(path: Path) -> None:
    write_header(path, offset=42, value=struct.pack("<3h", *[32000] * 3))


def voxels_at_no_number(path: Path) -> None:
    write_header(path, offset=108, value=struct.pack("<f", np.nan))


def voxels_at_infinity(path: Path) -> None:
    write_header(path, offset=108, value=struct.pack("<f", np.inf))


UNREADABLE = (
    truncated,
    no_bytes,
    no_image,
    unknown_datatype,
    nine_dimensions,
    negative_dimension,
    no_planes,
    immense_dimensions,
    voxels_at_no_number,
    voxels_at_infinity,
)


def colours(path: Path) -> None:
    """Readable, but three numbers for each voxel."""
    write_array(np.zeros(nib.load(path).shape, [("R", "u1"), ("G", "u1"), ("B", "u1")]), path)


def write_array(array: np.ndarray, path: Path) -> None:
    """Put other voxels into a file."""
    nib.save(nib.Nifti1Image(array, nib.load(path).affine), path)


def write_header(path: Path, *, offset: int, value: bytes) -> None:
    """Overwrite some bytes of a NIfTI file's header."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[offset : offset + len(value)] = value
    path.write_bytes(gzip.compress(content))
