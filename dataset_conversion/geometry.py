"""Where a file places its voxels, as read by nibabel and by SimpleITK, which nnU-Net uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from nibabel.affines import voxel_sizes

from nnunetv2_s2ca.core.nifti import NiftiFile

SHEAR_TOLERANCE = 1e-3  # largest cosine between two axes
# fields that differ between images and do not affect the geometry
NOT_GEOMETRY = ("cal_max", "cal_min", "scl_slope", "scl_inter", "descrip", "aux_file", "db_name")
LPS_TO_RAS = np.diag([-1.0, -1, 1, 1])


@dataclass(frozen=True)
class Geometry:
    """The grid of an image.

    Attributes:
        shape: Voxels along each of the three axes.
        affine: Voxel indices to mm, `(4, 4)`, as nibabel reads it.
        itk_affine: The same as SimpleITK reads it. The two differ where a header's qform, sform and
            voxel sizes contradict each other.
        spacing: Voxel sizes in mm, as nnU-Net gets them from SimpleITK.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    itk_affine: np.ndarray
    spacing: np.ndarray

    def distances(self, other: Geometry) -> tuple[float, float]:
        """Largest distances in mm between corners of two grids, for nibabel and SimpleITK."""
        return (
            corner_distance(self.shape, self.affine, other.affine),
            corner_distance(self.shape, self.itk_affine, other.itk_affine),
        )

    @property
    def ambiguity(self) -> float:
        """Largest distance in mm between where the two readers place a corner of this grid."""
        return corner_distance(self.shape, self.affine, self.itk_affine)


def read_geometry(nifti: NiftiFile) -> Geometry:
    """The geometry of an image's first three axes.

    Raises:
        ValueError: It is sheared, or SimpleITK cannot read the header or reads another shape.
    """
    directions = nifti.affine[:3, :3] / voxel_sizes(nifti.affine)
    if np.abs(directions.T @ directions - np.eye(3)).max() > SHEAR_TOLERANCE:
        raise ValueError("has a sheared affine, which nnU-Net cannot read; resample it")
    header = nifti.header.copy()
    for name in NOT_GEOMETRY:
        header[name] = 0 if header[name].dtype.kind == "f" else b""
    size, itk_affine = _read_by_simpleitk(header.binaryblock)
    if size != nifti.shape:
        raise ValueError(f"has the shape {nifti.shape}, but SimpleITK reads {size}")
    return Geometry(nifti.shape[:3], nifti.affine, itk_affine, voxel_sizes(itk_affine))


def corner_distance(shape: tuple[int, ...], affine: np.ndarray, other: np.ndarray) -> float:
    """The largest distance in mm between where two affines place a corner of an image."""
    corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in shape[:3]))])
    return float(np.linalg.norm(((affine - other) @ corners.T)[:3], axis=0).max())


@lru_cache  # most headers of a download are identical
def _read_by_simpleitk(header: bytes) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine (RAS, as in nibabel) that SimpleITK reads from a header."""
    import SimpleITK as sitk  # slow to import

    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    with TemporaryDirectory() as folder:
        path = Path(folder, "header.nii")
        path.write_bytes(header)
        reader.SetFileName(str(path))
        try:
            with without_warnings():
                reader.ReadImageInformation()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"cannot be read by SimpleITK, as nnU-Net does: {reason}") from error
    axes = reader.GetDimension()
    directions = np.reshape(reader.GetDirection(), (axes, axes))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = directions * reader.GetSpacing()[:3]
    affine[:3, 3] = reader.GetOrigin()[:3]
    return reader.GetSize(), LPS_TO_RAS @ affine


@contextmanager
def without_warnings() -> Iterator[None]:
    """Keep ITK from printing warnings into the progress bar; `Geometry` covers them."""
    import SimpleITK as sitk

    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
