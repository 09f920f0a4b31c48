"""NIfTI files in and out; gzip goes through ISA-L, which is several times as fast as zlib."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

# what reading a file that is damaged, or no image, may raise
READ_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    OSError,
    EOFError,
    OverflowError,
    zlib.error,
    isal_zlib.error,  # type: ignore[assignment]
    HeaderDataError,
    ImageFileError,
)

PIECE_BYTES = 2**18
VOXEL_OFFSET = 352  # of NIfTI-1 in one file without extensions
GZIP_LEVEL = 2  # level 3 is many times as slow, and no smaller on labels


def load_nifti(path: Path) -> nib.Nifti1Image:
    """Open a NIfTI file; nothing but its header is read.

    Raises:
        ValueError: if it is another kind of image, has an axis without voxels, or holds colours.
    """
    image = nib.load(path)
    if not isinstance(image, nib.Nifti1Image):
        raise ValueError("is no NIfTI image")
    if any(length < 1 for length in image.shape):
        raise ValueError(f"has the shape {image.shape}; expected 1 voxel or more along each axis")
    if image.get_data_dtype().names:
        raise ValueError("holds colours; expected one number for each voxel")
    return image


def voxel_pieces(path: Path) -> Iterator[np.ndarray]:
    """Voxels of a NIfTI file in pieces that fit into a processor's cache.

    Yields:
        Flat arrays in the file's order, the first axis fastest, scaled as the header says.

    Raises:
        One of READ_ERRORS, at the latest after the last piece.
    """
    image = load_nifti(path)
    stored: Any = image.dataobj
    dtype = image.get_data_dtype()
    missing = math.prod(image.shape) * dtype.itemsize
    piece = PIECE_BYTES // dtype.itemsize * dtype.itemsize
    with igzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        file.read(stored.offset)
        while missing:
            content = file.read(min(piece, missing))
            if len(content) < min(piece, missing):
                raise EOFError(f"is truncated: {missing - len(content)} bytes are missing")
            missing -= len(content)
            voxels = np.frombuffer(content, dtype)
            yield apply_read_scaling(voxels, stored.slope, stored.inter)
        while file.read(PIECE_BYTES):
            pass  # a checksum stands at the end


def read_voxels(path: Path) -> np.ndarray:
    """All voxels of a NIfTI file, scaled as its header says; raises one of READ_ERRORS."""
    shape = load_nifti(path).shape
    return np.concatenate(list(voxel_pieces(path))).reshape(shape, order="F")


def compressed_nifti(image: nib.Nifti1Image) -> bytes:
    """What a .nii.gz file of the image holds; equal images give equal bytes."""
    return igzip.compress(image.to_bytes(), GZIP_LEVEL, mtime=0)


def compressed_label_pieces(
    pieces: Iterable[np.ndarray], shape: Sequence[int], affine: np.ndarray
) -> bytes:
    """What a .nii.gz file of labels holds, uint8, from pieces as `voxel_pieces` gives them."""
    header = nifti_image(np.broadcast_to(np.uint8(0), shape), affine).header
    header.set_data_offset(VOXEL_OFFSET)
    header.set_slope_inter(1, 0)
    compressor = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, wbits=16 + zlib.MAX_WBITS)
    content = [compressor.compress(header.binaryblock.ljust(VOXEL_OFFSET, b"\0"))]
    content += [compressor.compress(piece) for piece in pieces]
    return b"".join([*content, compressor.flush()])


def write_compressed(content: bytes, path: Path) -> None:
    """Write what `compressed_nifti` gives to a .nii.gz file, or to a .nii file."""
    path.write_bytes(content if path.suffix.lower() == ".gz" else igzip.decompress(content))


def nifti_image(voxels: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    """A NIfTI image of these voxels, of their own dtype, in mm."""
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    return image
