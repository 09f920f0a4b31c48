"""Examining the files of one case for whatever nnU-Net or SimpleITK would refuse or misread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from nnunetv2_s2ca.brats.editions import Edition
from nnunetv2_s2ca.brats.labels import relabel
from nnunetv2_s2ca.core.nifti import (
    READ_ERRORS,
    NiftiFile,
    length_fits,
    open_nifti,
    read_failure,
)
from nnunetv2_s2ca.core.nifti_writing import compressed_nifti, header_like
from nnunetv2_s2ca.dataset_conversion.geometry import Geometry, read_geometry
from nnunetv2_s2ca.dataset_conversion.source import Case

# mm between the same corner of two images of a case; headers store float32
CORNER_TOLERANCE = 0.01


@dataclass(frozen=True)
class CheckedCase:
    """A case, what is wrong with it, and what its segmentation holds.

    Attributes:
        case: The case with all problems found.
        labels: The source's labels in the segmentation; None without one.
        label_file: On request, the bytes of a .nii.gz file with the segmentation in nnU-Net's
            labels (some 50 kB), so that the conversion need not read the segmentation again.
    """

    case: Case
    labels: tuple[int, ...] | None = None
    label_file: bytes | None = None

    def __str__(self) -> str:
        return self.case.identifier


def examine_case(
    case: Case, *, edition: Edition, deep: bool, label_files: bool = False
) -> CheckedCase:
    """Read the images and the segmentation of a case; arguments as for `check_cases`."""
    problems, remarks = list(case.problems), list(case.remarks)
    labels, label_file = None, None
    with ExitStack() as opened:
        images: list[_File] = []
        channels = len(edition.stored_channels) if edition.four_dimensional else None
        for path, channel in {path: channel for channel, path in case.images.items()}.items():
            with _noted(path, problems):
                images.append(_open(path, channel, opened, channels=channels))
        for image in images:
            with _noted(image.path, problems):
                _check_same_grid(image, images[0])
            with _noted(image.path, problems):
                _check_voxels(image, deep=deep)
        if case.segmentation is not None:
            with _noted(case.segmentation, problems):
                segmentation = _open(case.segmentation, "segmentation", opened)
                # with exactly the first image's geometry, whatever program reads the two
                header = images[0].nifti.header if label_files and not problems else None
                labels, label_file = _read_labels(segmentation, edition, header)
                if images:
                    _check_same_grid(segmentation, images[0])
                if segmentation.nifti.dtype.kind == "f":
                    remarks.append(f"labels are stored as {segmentation.nifti.dtype}")
        if images and (distance := images[0].geometry.ambiguity) > CORNER_TOLERANCE:
            remarks.append(
                f"qform, sform and voxel sizes of {images[0].path.name} contradict each other: "
                f"programs place its voxels up to {distance:.3g} mm apart"
            )
    case = replace(case, problems=tuple(problems), remarks=tuple(remarks))
    return CheckedCase(case, labels, None if problems else label_file)


class _File(NamedTuple):
    """An open file of a case; `what` is its channel, or "segmentation"."""

    path: Path
    what: str
    nifti: NiftiFile
    geometry: Geometry


@contextmanager
def _noted(path: Path, problems: list[str]) -> Iterator[None]:
    """Add what is wrong with a file to the problems instead of raising."""
    try:
        yield
    except READ_ERRORS as error:
        problems.append(f"{path}: {read_failure(error)}")


def _open(path: Path, what: str, opened: ExitStack, *, channels: int | None = None) -> _File:
    """Open a file that must have three axes, or a fourth with so many channels."""
    nifti = opened.enter_context(open_nifti(path))
    axes = 3 if channels is None else 4
    if len(nifti.shape) != axes:
        raise ValueError(f"has the shape {nifti.shape}; expected {axes} dimensions")
    if channels is not None and nifti.shape[3] != channels:
        raise ValueError(f"holds {nifti.shape[3]} channels; expected {channels}")
    return _File(path, what, nifti, read_geometry(nifti))


def _check_voxels(file: _File, *, deep: bool) -> None:
    """Read all voxels, and refuse those that are not finite in nnU-Net's float32.

    Without `deep`, only a file whose length differs from its header's is read.
    """
    if not deep and length_fits(file.path, file.nifti):
        return
    count = 0
    for piece in file.nifti.voxel_pieces():
        if piece.dtype.kind == "f":
            with np.errstate(over="ignore"):
                count += piece.size - np.isfinite(piece.astype(np.float32, copy=False)).sum()
    if count:
        raise ValueError(f"holds {count} NaN or infinite voxels; expected numbers")


def _check_same_grid(file: _File, first: _File) -> None:
    """Refuse a file whose grid differs from the first image's."""
    geometry, expected, channel = file.geometry, first.geometry, first.what
    if geometry.shape != expected.shape:
        raise ValueError(
            f"has the shape {geometry.shape}; expected that of {channel}, {expected.shape}"
        )
    if not np.allclose(expected.spacing, geometry.spacing):  # nnU-Net's own criterion
        raise ValueError(
            f"has another affine than {channel}: voxels of {_sizes(geometry)} mm; expected "
            f"{_sizes(expected)}"
        )
    distance = max(geometry.distances(expected))
    if distance > CORNER_TOLERANCE:
        raise ValueError(
            f"has another affine than {channel}: corners lie up to {distance:.3g} mm apart"
        )


def _sizes(geometry: Geometry) -> str:
    return " × ".join(f"{size:.7g}" for size in geometry.spacing)


def _read_labels(
    file: _File, edition: Edition, header: nib.Nifti1Header | None
) -> tuple[tuple[int, ...], bytes | None]:
    """The labels in a segmentation; with a header, also the file in nnU-Net's labels."""
    present: set[int] = set()

    def renamed() -> Iterator[np.ndarray]:
        for voxels in file.nifti.voxel_pieces():
            labels, found = relabel(voxels, edition.labels)
            present.update(found)
            yield labels

    if header is not None:
        label_file = compressed_nifti(renamed(), header_like(header, file.nifti.shape, np.uint8))
        return tuple(sorted(present)), label_file
    for _ in renamed():
        pass
    return tuple(sorted(present)), None
