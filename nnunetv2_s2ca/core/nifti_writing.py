"""Writing NIfTI files; gzip goes through ISA-L, which is several times as fast as zlib."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib

from nnunetv2_s2ca.core.nifti import PIECE_BYTES, VOXEL_OFFSET

GZIP_LEVEL = 2  # level 3 is many times slower and compresses labels no better

# the fields that place the voxels in space
GEOMETRY_FIELDS = (
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z"),
)


def header_like(
    header: nib.Nifti1Header, shape: Sequence[int], dtype: np.dtype | type
) -> nib.Nifti1Header:
    """A header for other voxels on the same grid, so that every reader gets the same geometry."""
    new = nib.Nifti1Header()
    new.set_data_shape(shape)
    new.set_data_dtype(np.dtype(dtype))
    new.set_data_offset(VOXEL_OFFSET)
    new.set_slope_inter(1, 0)
    for name in GEOMETRY_FIELDS:
        new[name] = header[name]
    new["pixdim"][:4] = header["pixdim"][:4]
    new["xyzt_units"] = int(header["xyzt_units"]) % 8  # without the unit of time
    return new


def compressed_nifti(pieces: Iterable[np.ndarray], header: nib.Nifti1Header) -> bytes:
    """The bytes of a .nii.gz file; equal voxels and headers give equal bytes.

    Args:
        pieces: Flat arrays of the header's dtype in the file's order, as from `voxel_pieces`; for
            a whole volume, `[volume.ravel(order="F")]`.
        header: From `header_like`.
    """
    start = header.binaryblock.ljust(VOXEL_OFFSET, b"\0")
    return b"".join(_compressed(chain([start], pieces)))


def write_compressed(content: bytes, path: Path) -> None:
    """Write the bytes from `compressed_nifti` to a .nii.gz file, or decompressed to a .nii file."""
    path.write_bytes(content if path.suffix.lower() == ".gz" else igzip.decompress(content))


def compress_file(source: Path, target: Path) -> None:
    """Compress a file with gzip, its bytes unchanged."""
    with source.open("rb") as content, target.open("wb") as file:
        file.writelines(_compressed(iter(lambda: content.read(PIECE_BYTES), b"")))


def _compressed(pieces: Iterable[bytes | np.ndarray]) -> Iterator[bytes]:
    compressor = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, wbits=16 + zlib.MAX_WBITS)
    for piece in pieces:
        yield compressor.compress(piece)
    yield compressor.flush()
