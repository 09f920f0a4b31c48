"""Reading one scan, a NIfTI file or a folder of DICOM files, and writing on its grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.nifti import READ_ERRORS, NiftiFile, open_nifti, read_failure
from nnunetv2_s2ca.core.nifti_writing import compressed_nifti, header_like
from nnunetv2_s2ca.core.text import excerpt
from nnunetv2_s2ca.dataset_conversion.geometry import (
    LPS_TO_RAS,
    corner_distance,
    read_geometry,
    without_warnings,
)
from nnunetv2_s2ca.imaging.dicom import read_dicom

# mm between where a header's qform and sform place a corner: two places, not two roundings
AMBIGUOUS_MM = 1.0


@dataclass(frozen=True)
class Scan:
    """A 3D image of one sequence.

    Attributes:
        path: The file, or the folder of a DICOM series.
        image: Its voxels in float32, as nnU-Net reads them.
        header: Places results on the scan's grid, bit for bit.
        remarks: What is odd about the file.
    """

    path: Path
    image: sitk.Image
    header: nib.Nifti1Header
    remarks: tuple[str, ...] = ()

    @property
    def voxels(self) -> np.ndarray:
        """The voxels `(Z, Y, X)`, float32; not to be modified."""
        return sitk.GetArrayViewFromImage(self.image)


def read_scan(path: Path, *, may_be_empty: bool = False) -> Scan:
    """Read a scan whole.

    Args:
        path: A NIfTI-1 file, or a folder that holds one DICOM series.
        may_be_empty: Accept one value throughout, as of a segmentation without tumour.

    Raises:
        UserError: It is missing, damaged, empty or not 3D; holds NaN or infinity; or is a folder
            with no or several DICOM series.
    """
    remarks: tuple[str, ...] = ()
    if path.is_dir():
        image = read_dicom(path)
        header = header_of(image)
    else:
        header, remarks = _check_nifti(path)
        image = _read_by_simpleitk(path)
    scan = Scan(path, sitk.Cast(image, sitk.sitkFloat32), header, remarks)
    if not np.isfinite(scan.voxels).all():  # also by a header's slope
        raise UserError(f"{path} holds NaN or infinity; expected numbers. Convert it again")
    if not may_be_empty and scan.voxels.min() == scan.voxels.max():
        raise UserError(
            f"{path} is empty: all voxels are {scan.voxels.flat[0]:g}; expected an image"
        )
    return scan


def nifti_bytes(voxels: np.ndarray, header: nib.Nifti1Header) -> bytes:
    """A compressed NIfTI file of voxels on a scan's grid.

    Args:
        voxels: `(Z, Y, X)`, of the type to store.
        header: The scan's.
    """
    new = header_like(header, voxels.shape[::-1], voxels.dtype)
    return compressed_nifti([np.ascontiguousarray(voxels).ravel()], new)


def affine_of(image: sitk.Image) -> np.ndarray:
    """Voxel indices (x, y, z) to mm, `(4, 4)`, in NIfTI's coordinates (RAS)."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return LPS_TO_RAS @ affine


def _check_nifti(path: Path) -> tuple[nib.Nifti1Header, tuple[str, ...]]:
    try:
        with open_nifti(path) as nifti:
            if len(nifti.shape) != 3:
                raise ValueError(
                    f"has the shape {nifti.shape}; expected a 3D image. Extract one volume of it"
                )
            read_geometry(nifti)  # refuses what SimpleITK reads differently, or not at all
            # ITK checks no lengths and no checksums, and reads 0 in place of NaN and infinity
            for piece in nifti.voxel_pieces():
                if not np.isfinite(piece).all():
                    raise ValueError("holds NaN or infinity; expected numbers. Convert it again")
            return nifti.header, tuple(_odd_geometry(path, nifti))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except READ_ERRORS as error:
        raise UserError(f"{path} {read_failure(error)}") from error


def _odd_geometry(path: Path, nifti: NiftiFile) -> Iterator[str]:
    """What makes the place of a scan uncertain."""
    affines = (nifti.corrected.get_qform(coded=True)[0], nifti.corrected.get_sform(coded=True)[0])
    by_qform, by_sform = affines
    if by_qform is None and by_sform is None:
        yield f"{path} has no qform and no sform, so that left and right are not known for sure"
    elif by_qform is not None and by_sform is not None:
        distance = corner_distance(nifti.shape, by_qform, by_sform)
        if distance > AMBIGUOUS_MM:
            yield f"{path}: its qform and its sform differ by {distance:.1f} mm; the sform is used"


def _read_by_simpleitk(path: Path) -> sitk.Image:
    try:
        with without_warnings():
            return sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"{path} cannot be read by SimpleITK: {excerpt(reason)}") from error


def header_of(image: sitk.Image) -> nib.Nifti1Header:
    """A header that holds an image's grid, and nothing else."""
    header = nib.Nifti1Header()
    header.set_data_shape(image.GetSize())
    header.set_xyzt_units("mm")
    affine = affine_of(image)
    header.set_qform(affine, code="scanner")
    header.set_sform(affine, code="scanner")
    return header
