"""Look at every case before anything is written: `s2ca check`, and the first step of `convert`."""

from __future__ import annotations

import math
import os
import re
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes

from nnunetv2_s2ca.brats.editions import Edition
from nnunetv2_s2ca.brats.labels import as_labels, relabel
from nnunetv2_s2ca.core.nifti import (
    READ_ERRORS,
    compressed_label_pieces,
    load_nifti,
    voxel_pieces,
)
from nnunetv2_s2ca.core.workers import map_cases
from nnunetv2_s2ca.dataset_conversion.patients import GRADES
from nnunetv2_s2ca.dataset_conversion.source import Case, find_cases
from nnunetv2_s2ca.dataset_conversion.walk import what_is_passed_over

# rows of the table, and what the problems say that stand under each
KINDS = {
    "files missing": r"is missing; expected",
    "in several folders or files": r"; expected one$",
    "labels off": r"\blabels?\b",
    "geometry off": r"\baffine\b|has the shape",
    "NaN or infinite": r"NaN or infinite",
}

AFFINE_TOLERANCE = 1e-3  # mm over one voxel
TRAILING_BYTES = 2**16


@dataclass(frozen=True)
class CheckedCase:
    """A case, what is wrong with it, and what its segmentation holds.

    Attributes:
        case: with all problems found.
        labels: labels of the source in the segmentation; None without one.
        label_file: the segmentation in nnU-Net's labels, as a .nii.gz file holds it, if asked for;
            some 50 kB, so that the conversion need not read the segmentation again.
    """

    case: Case
    labels: tuple[int, ...] | None = None
    label_file: bytes | None = None

    def __str__(self) -> str:
        return self.case.identifier


def check_cases(
    edition: Edition,
    source: Path,
    *,
    processes: int | None = None,
    voxels: bool = True,
    label_files: bool = False,
) -> list[CheckedCase]:
    """Find the cases of a source and examine their files.

    Args:
        edition: the edition that the source is.
        source: folder of the download.
        processes: worker processes; all cores if not given.
        voxels: look for NaN in images stored as floating point, which means reading them.
        label_files: give the segmentations in nnU-Net's labels, too.

    Raises:
        UserError: if no case is found; see `find_cases`.
    """
    cases = find_cases(edition, source)
    examine = partial(examine_case, edition=edition, voxels=voxels, label_files=label_files)
    return map_cases(examine, cases, processes=processes, title="check")


def examine_case(
    case: Case, *, edition: Edition, voxels: bool, label_files: bool = False
) -> CheckedCase:
    """Read the headers of a case, and its segmentation; arguments as of `check_cases`."""
    problems, remarks = list(case.problems), list(case.remarks)
    geometry = None
    for channel, path in case.images.items():
        try:
            image = _open(path, dimensions=4 if edition.four_dimensional else 3)
            shape, affine = image.shape[:3], image.affine
            if edition.four_dimensional and image.shape[3] != len(edition.channels):
                raise ValueError(
                    f"holds {image.shape[3]} channels; expected {len(edition.channels)}"
                )
            _check_affine(affine)
            if geometry is None:
                geometry = channel, shape, affine
            _check_same_geometry(geometry, shape, affine)
            if voxels and np.issubdtype(image.get_data_dtype(), np.floating):
                _check_finite(path)
        except READ_ERRORS as error:
            problems.append(f"{path}: {error}")
        if edition.four_dimensional:
            break
    labels, label_file = None, None
    if case.segmentation is not None:
        try:
            image = _open(case.segmentation, dimensions=3)
            if geometry is not None:
                _check_same_geometry(geometry, image.shape, image.affine)
            if np.issubdtype(image.get_data_dtype(), np.floating):
                remarks.append(f"labels are stored as {image.get_data_dtype()}")
            labels, label_file = _read_labels(
                case.segmentation, image, edition, keep=label_files and not problems
            )
        except READ_ERRORS as error:
            problems.append(f"{case.segmentation}: {error}")
    case = replace(case, problems=tuple(problems), remarks=tuple(remarks))
    return CheckedCase(case, labels, label_file)


def describe(edition: Edition, checked: Sequence[CheckedCase], *, source: Path) -> str:
    """A table of what the check found: totals, problems case by case, oddities dealt with."""
    cases = [item.case for item in checked]
    bad = [case for case in cases if case.problems]
    patients = Counter(case.patient for case in cases)
    several = {name for name, count in patients.items() if count > 1}
    kinds = Counter(kind for case in bad for kind in {_kind_of(text) for text in case.problems})
    grades = Counter(case.grade for case in cases if case.grade)
    rows = [
        ("cases", str(len(cases))),
        ("complete", str(len(cases) - len(bad))),
        ("with segmentation", str(sum(case.segmentation is not None for case in cases))),
        ("without (to predict)", str(sum(case.segmentation is None for case in cases))),
        ("patients", str(len(patients))),
        ("patients with several cases", str(len(several))),
        *((f"grade {grade}", str(count)) for grade, count in sorted(grades.items())),
        ("in trouble", str(len(bad))),
        *((f"  {kind}", str(count)) for kind, count in sorted(kinds.items())),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{edition.name}:", *(f"  {name:{width}}  {value}" for name, value in rows)]
    for case in cases:
        lines += [f"  trouble  {case.identifier}: {problem}" for problem in case.problems]
    for case in cases:
        lines += [f"  note     {case.identifier}: {remark}" for remark in case.remarks]
    for patient in sorted(several):
        names = ", ".join(case.identifier for case in cases if case.patient == patient)
        lines.append(f"  note     patient {patient} has several cases: {names}")
    folders = {path.parent.parent for case in cases for path in case.images.values()}
    common = Path(os.path.commonpath(folders)) if folders else source
    if not edition.four_dimensional and common != source and common.name.upper() not in GRADES:
        lines.append(f"  note     all cases lie below {common}")
    lines += [f"  note     {remark}" for remark in what_is_passed_over(source)]
    return "\n".join(lines)


def _kind_of(problem: str) -> str:
    """The row of the table under which a problem is counted."""
    return next((kind for kind, part in KINDS.items() if re.search(part, problem)), "unreadable")


def _open(path: Path, *, dimensions: int) -> nib.Nifti1Image:
    image = load_nifti(path)
    if len(image.shape) != dimensions:
        raise ValueError(f"has the shape {image.shape}; expected {dimensions} dimensions")
    _check_length(path, image)
    return image


def _read_labels(
    path: Path, image: nib.Nifti1Image, edition: Edition, *, keep: bool
) -> tuple[tuple[int, ...], bytes | None]:
    """Labels that occur in a segmentation, and its file in nnU-Net's labels if to be kept."""
    present: set[int] = set()

    def renamed() -> Iterator[np.ndarray]:
        for voxels in voxel_pieces(path):
            labels, found = as_labels(voxels, edition.labels)
            present.update(found)
            yield relabel(labels, edition.labels)

    if keep:
        label_file = compressed_label_pieces(renamed(), image.shape, image.affine)
        return tuple(sorted(present)), label_file
    for _ in renamed():
        pass
    return tuple(sorted(present)), None


def _check_length(path: Path, image: nib.Nifti1Image) -> None:
    """Notice a truncated file without decompressing it.

    A gzip file ends with the length of what it holds, modulo 2³² (RFC 1952).
    """
    offset = image.dataobj.offset  # type: ignore[attr-defined]
    expected = offset + math.prod(image.shape) * image.get_data_dtype().itemsize
    size = path.stat().st_size
    if path.suffix.lower() == ".gz":
        with path.open("rb") as file:
            file.seek(-4, os.SEEK_END)
            size, expected = struct.unpack("<I", file.read(4))[0], expected % 2**32
    # a little more may follow the voxels; of a truncated gzip file, this is any number
    if expected <= size <= expected + TRAILING_BYTES:
        return
    try:
        # a gzip file of several parts ends with the last one's length: only reading it tells
        for _ in voxel_pieces(path):
            pass
    except READ_ERRORS as error:
        raise ValueError(
            f"is truncated or damaged; its header announces {expected} bytes"
        ) from error


def _check_affine(affine: np.ndarray) -> None:
    if not np.isfinite(affine).all() or (voxel_sizes(affine) == 0).any():
        raise ValueError("has an affine that is no geometry")
    directions = affine[:3, :3] / voxel_sizes(affine)
    if np.abs(directions.T @ directions - np.eye(3)).max() > AFFINE_TOLERANCE:
        raise ValueError("has a sheared affine, which nnU-Net cannot read; resample it")


def _check_same_geometry(
    geometry: tuple[str, tuple[int, ...], np.ndarray], shape: tuple[int, ...], affine: np.ndarray
) -> None:
    channel, first_shape, first_affine = geometry
    if tuple(shape) != tuple(first_shape):
        raise ValueError(
            f"has the shape {tuple(shape)}; expected that of {channel}, {tuple(first_shape)}"
        )
    difference = np.abs(affine - first_affine)
    if difference[:3, :3].max() > AFFINE_TOLERANCE or difference[:3, 3].max() > AFFINE_TOLERANCE:
        raise ValueError(f"has another affine than {channel}")


def _check_finite(path: Path) -> None:
    count = sum(int((~np.isfinite(piece)).sum()) for piece in voxel_pieces(path))
    if count:
        raise ValueError(f"holds {count} voxels that are NaN or infinite; expected numbers")
