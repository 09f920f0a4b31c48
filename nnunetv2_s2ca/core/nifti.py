"""Reading NIfTI files; gzip goes through ISA-L, which is several times as fast as zlib."""

from __future__ import annotations

import gzip
import logging
import math
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.affines import voxel_sizes
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

DAMAGE: tuple[type[Exception], ...] = (
    gzip.BadGzipFile,
    zlib.error,
    isal_zlib.error,  # type: ignore[assignment]
)
FILE_ENDINGS = (".nii.gz", ".nii")

# what reading a file may raise if it is damaged or not an image; `read_failure` words it
READ_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    OSError,
    EOFError,
    OverflowError,
    HeaderDataError,
    ImageFileError,
    *DAMAGE,
)

PIECE_BYTES = 2**18  # fits into a processor's cache
HEADER_BYTES = 348
VOXEL_OFFSET = 352  # in a single NIfTI-1 file without extensions
TRAILING_BYTES = 2**16  # may follow the voxels
DEFLATE_RATIO = 1032  # the most that gzip can compress
# SimpleITK ignores a smaller slope
SMALLEST_SLOPE = np.finfo(np.float64).eps

# nibabel's own logger prints its corrections of a header
_quiet = logging.Logger(__name__)
_quiet.addHandler(logging.NullHandler())


@dataclass(frozen=True)
class NiftiFile:
    """A NIfTI-1 file whose header has been read.

    Attributes:
        header: The header as stored.
        corrected: The header as nibabel corrects it.
        shape: Voxels along each axis; the first axis is the fastest in the file.
        dtype: Stored type of a voxel.
        content: The file, positioned at the first voxel.
    """

    header: nib.Nifti1Header
    corrected: nib.Nifti1Header
    shape: tuple[int, ...]
    dtype: np.dtype
    content: BinaryIO

    @cached_property
    def affine(self) -> np.ndarray:
        """Voxel indices to mm, `(4, 4)`: the sform's affine, else the qform's."""
        return self.corrected.get_best_affine()

    def voxel_pieces(self) -> Iterator[np.ndarray]:
        """Read the voxels in pieces that fit into a processor's cache; works once per opening.

        Yields:
            Flat arrays in the file's order, the first axis fastest, scaled as the header says.

        Raises:
            One of READ_ERRORS, possibly only after the last piece, where gzip has its checksum.
        """
        slope, intercept = self.corrected.get_slope_inter()
        missing = math.prod(self.shape) * self.dtype.itemsize
        piece = PIECE_BYTES // self.dtype.itemsize * self.dtype.itemsize
        while missing:
            content = _read(self.content, min(piece, missing))
            if len(content) < min(piece, missing):
                raise EOFError(f"is truncated: {missing - len(content)} bytes are missing")
            missing -= len(content)
            yield apply_read_scaling(np.frombuffer(content, self.dtype), slope, intercept)
        if len(_read(self.content, TRAILING_BYTES)) == TRAILING_BYTES:
            raise ValueError(f"has {TRAILING_BYTES} or more bytes after its voxels")


@contextmanager
def open_nifti(path: Path) -> Iterator[NiftiFile]:
    """Open a NIfTI file and read its header.

    Raises:
        One of READ_ERRORS: it is not a NIfTI-1 file of numbers, its header contradicts itself or
        the file's size, or nibabel and SimpleITK would read different voxels.
    """
    mode = path.stat().st_mode  # before opening, since opening a pipe waits for a writer
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "pipe or device"
        raise ValueError(f"is a {kind}; expected a file")
    compressed = path.suffix.lower() == ".gz"
    with igzip.open(path) if compressed else path.open("rb") as file:
        nifti = _read_header(file)
        _check_size(nifti, path.stat().st_size, compressed=compressed)
        _skip(file, nifti.corrected.get_data_offset() - HEADER_BYTES)
        yield nifti


def length_fits(path: Path, nifti: NiftiFile) -> bool:
    """Whether a file has the length that its header announces, without decompressing it.

    A gzip file ends with the length of its content modulo 2³² (RFC 1952); one of several members,
    with that of the last member, so that it does not fit and has to be read.
    """
    expected, size = _announced_bytes(nifti), path.stat().st_size
    if path.suffix.lower() == ".gz":
        with path.open("rb") as file:
            file.seek(-4, os.SEEK_END)
            size, expected = struct.unpack("<I", file.read(4))[0], expected % 2**32
    return expected <= size < expected + TRAILING_BYTES


def load_nifti(path: Path) -> nib.Nifti1Image:
    """Load an image without reading its voxels yet; raises as `open_nifti` does."""
    with open_nifti(path) as nifti:
        stored = ArrayProxy(path, nifti.corrected)
        return nib.Nifti1Image(stored, nifti.affine, nifti.corrected)


def voxel_pieces(path: Path) -> Iterator[np.ndarray]:
    """Read a file by `NiftiFile.voxel_pieces`; raises as `open_nifti` does."""
    with open_nifti(path) as nifti:
        yield from nifti.voxel_pieces()


def read_voxels(path: Path) -> np.ndarray:
    """All voxels of a NIfTI file, scaled as its header says.

    Raises:
        One of READ_ERRORS, or a MemoryError that names the size.
    """
    with open_nifti(path) as nifti:
        voxels, done = np.empty(0), 0
        for piece in nifti.voxel_pieces():
            if not done:
                voxels = _allocate(math.prod(nifti.shape), piece.dtype)
            voxels[done : done + piece.size] = piece
            done += piece.size
        return voxels.reshape(nifti.shape, order="F")


def read_failure(error: Exception) -> str:
    """Why a file cannot be read, from one of READ_ERRORS, worded to follow the file's name."""
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return str(error)


def _read_header(file: BinaryIO) -> NiftiFile:
    block = _read(file, HEADER_BYTES)
    if len(block) < HEADER_BYTES:
        raise ValueError("is not a NIfTI image: it ends within the header")
    if block[4:8] in (b"n+2\0", b"ni2\0"):
        raise ValueError("is NIfTI-2, which SimpleITK cannot read; save it as NIfTI-1")
    if not block.endswith(b"n+1\0"):
        raise ValueError("is not a NIfTI-1 image in a single file")
    header = nib.Nifti1Header(block, check=False)
    corrected = header.copy()
    corrected.check_fix(logger=_quiet, error_level=40)
    _check_header(header, corrected)
    return NiftiFile(
        header, corrected, corrected.get_data_shape(), corrected.get_data_dtype(), file
    )


def _check_header(header: nib.Nifti1Header, corrected: nib.Nifti1Header) -> None:
    shape, dtype = corrected.get_data_shape(), corrected.get_data_dtype()
    if any(length < 1 for length in shape):
        raise ValueError(f"has the shape {shape}; expected at least 1 voxel along each axis")
    if dtype.names:
        raise ValueError("holds colours; expected one number per voxel")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise ValueError(f"holds {dtype} numbers; expected integers, float32 or float64")
    sizes = header["pixdim"][1:4]
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise ValueError(
            f"has voxels of {' × '.join(f'{n:g}' for n in sizes)} mm; expected finite sizes above 0"
        )
    if not math.isfinite(header["vox_offset"]) or header["vox_offset"] < VOXEL_OFFSET:
        raise ValueError(
            f"has its voxels at byte {header['vox_offset']:g}; expected {VOXEL_OFFSET} or more"
        )
    slope = corrected.get_slope_inter()[0]  # raises if the intercept is not finite
    stored = float(header["scl_inter"])
    if slope is None and math.isfinite(stored) and stored:
        raise ValueError(
            f"has the intercept {stored:g} and no slope, which readers interpret differently"
        )
    if slope is not None and abs(slope) < SMALLEST_SLOPE:
        raise ValueError(f"has the slope {slope:g}, which SimpleITK ignores")
    affine = corrected.get_best_affine()
    if not np.isfinite(affine).all() or (voxel_sizes(affine) == 0).any():
        raise ValueError(
            f"has the affine {affine[:3].tolist()}; expected finite numbers, and no axis of zeros"
        )


def _announced_bytes(nifti: NiftiFile) -> int:
    voxels = math.prod(nifti.shape) * nifti.dtype.itemsize
    return nifti.corrected.get_data_offset() + voxels


def _check_size(nifti: NiftiFile, size: int, *, compressed: bool) -> None:
    """Refuse a header that announces more than the file can hold, before allocating memory."""
    announced = _announced_bytes(nifti)
    if announced > size * (DEFLATE_RATIO if compressed else 1):
        raise ValueError(
            f"is truncated or damaged: its header announces {announced} bytes "
            f"({' × '.join(map(str, nifti.shape))} voxels), which a file of {size} cannot hold"
        )


def _skip(file: BinaryIO, size: int) -> None:
    while size and (content := _read(file, min(size, PIECE_BYTES))):
        size -= len(content)


def _read(file: BinaryIO, size: int) -> bytes:
    """Read, with errors that say what is wrong."""
    try:
        return file.read(size)
    except EOFError as error:
        raise EOFError("is truncated") from error
    except DAMAGE as error:
        raise ValueError(f"is damaged: {error}") from error


def _allocate(count: int, dtype: np.dtype) -> np.ndarray:
    try:
        return np.empty(count, dtype.newbyteorder("="))
    except MemoryError as error:
        size = count * dtype.itemsize / 1e9
        raise MemoryError(f"its {count} voxels take {size:.1f} GB") from error
