"""Exporting predictions in their edition's labels, names and geometry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunetv2_s2ca.brats.editions import Edition
from nnunetv2_s2ca.brats.labels import relabel
from nnunetv2_s2ca.core.errors import UserError, disk_errors_named
from nnunetv2_s2ca.core.files import check_output_folder
from nnunetv2_s2ca.core.folders import check_apart, replaced_folder
from nnunetv2_s2ca.core.nifti import (
    FILE_ENDINGS,
    READ_ERRORS,
    open_nifti,
    read_failure,
    read_voxels,
)
from nnunetv2_s2ca.core.nifti_writing import compressed_nifti, header_like, write_compressed
from nnunetv2_s2ca.core.text import listed
from nnunetv2_s2ca.core.workers import map_cases
from nnunetv2_s2ca.dataset_conversion.geometry import Geometry, read_geometry
from nnunetv2_s2ca.dataset_conversion.references import References


@dataclass(frozen=True)
class Export:
    """Files for the challenge.

    Attributes:
        output: Their folder.
        files: One per case.
    """

    output: Path
    files: list[Path]

    def __str__(self) -> str:
        return f"wrote {len(self.files)} files to {self.output}"


@disk_errors_named()
def export(
    references: References,
    predictions: Path,
    output: Path,
    *,
    processes: int | None = None,
    allow_unknown: bool = False,
    say: Callable[[str], None] = print,
) -> Export:
    """Write predictions as the challenge expects them: uint8, `<case>.nii.gz`.

    Labels are the edition's, and the geometry is bit for bit that of the case's images. Each file
    is read again after writing. The folder appears once it holds all files.

    Args:
        references: The images of the cases.
        predictions: Folder of nnU-Net's predictions (.nii.gz or .nii).
        output: Folder for the files, new or empty.
        processes: Worker processes; all cores if None.
        allow_unknown: Also export cases without an image, in their own geometry.
        say: Receives a line about cases without a prediction.

    Raises:
        UserError: There is no prediction, two for one case, or one for a case without an image;
            one holds an unknown label or differs in geometry from the case's images; or
            the output is not empty, overlaps with the input or cannot be written. Nothing is
            written.
    """
    predictions, output = Path(predictions), Path(output)
    files = _find_predictions(predictions)
    unknown = sorted(files.keys() - references.known)
    if unknown and not allow_unknown:
        raise UserError(
            f"{predictions} holds predictions of cases that {references.folder} does not have: "
            f"{listed(unknown)}. Rename them like their images, remove them, or export them in "
            "their own geometry with `allow_unknown=True`"
        )
    if not allow_unknown and (lacking := sorted(files.keys() - references.images.keys())):
        raise UserError(
            f"{references.folder} lacks the images of {listed(lacking)}, whose geometry the files "
            "need. Put the images back, or export these cases in their own geometry with "
            "`allow_unknown=True`"
        )
    check_apart(output, predictions, references.folder)
    check_output_folder(output)
    if output.is_dir() and any(output.iterdir()):
        raise UserError(f"{output} exists and is not empty; name a new or empty folder (`output`)")
    for line in references.without_prediction(files):
        say(line)
    with replaced_folder(output, overwrite=False) as temporary:
        work = partial(
            _export_one,
            edition=references.edition,
            references=references.images,
            temporary=temporary,
            output=output,
        )
        written = map_cases(work, list(files.values()), processes=processes, title="export")
    return Export(output, written)


def _find_predictions(folder: Path) -> dict[str, Path]:
    """Case identifier → prediction."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith(".") or not path.name.endswith(FILE_ENDINGS):
            continue
        other = files.setdefault(_case_of(path), path)
        if other != path:
            raise UserError(f"{other} and {path.name} are of one case; remove one of them")
    if not files:
        raise UserError(f"{folder} holds no prediction; expected files ending in .nii.gz")
    return files


def _case_of(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _export_one(
    path: Path, *, edition: Edition, references: dict[str, Path], temporary: Path, output: Path
) -> Path:
    header = _check_geometry(path, references.get(_case_of(path)))
    with _naming(path):
        voxels = read_voxels(path)
    try:
        labels, _ = relabel(voxels, edition.source_labels)
    except ValueError as error:
        raise UserError(f"{path} {error}, which are nnU-Net's labels of {edition.name}") from error
    header = header_like(header, labels.shape, np.uint8)
    name = f"{_case_of(path)}.nii.gz"
    try:
        write_compressed(compressed_nifti([labels.ravel(order="F")], header), temporary / name)
        if not np.array_equal(read_voxels(temporary / name), labels):
            raise UserError(f"{output / name} reads differently than written; check the disk")
    except READ_ERRORS as error:  # the error of a full disk does not name the file
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{output / name} cannot be written: {reason}; nothing was exported"
        ) from error
    return output / name


def _check_geometry(path: Path, reference: Path | None) -> nib.Nifti1Header:
    """Compare the geometry of a prediction and its image; returns the header to take over."""
    with _naming(path), open_nifti(path) as nifti:
        found = read_geometry(nifti)
        if len(nifti.shape) != 3:
            raise ValueError(f"has the shape {nifti.shape}; expected 3 dimensions")
        if reference is None:
            return nifti.header
    with _naming(reference), open_nifti(reference) as nifti:
        expected = read_geometry(nifti)
        header = nifti.header
    if difference := _difference(found, expected):
        raise UserError(f"{path} has another geometry than {reference}: {difference}")
    return header


def _difference(found: Geometry, expected: Geometry) -> str:
    """How two geometries differ, in words; empty for rounding differences."""
    if found.shape != expected.shape:
        return f"expected the shape {expected.shape}, got {found.shape}"
    # nnU-Net writes what one of the two readers got from the image
    distance = min(found.distances(expected))
    if distance <= min(0.1, np.linalg.norm(expected.spacing * expected.shape) / 1000):
        return ""
    axes, expected_axes = ("".join(nib.aff2axcodes(g.affine)) for g in (found, expected))
    turned = f"its axes run {axes}, expected {expected_axes}; " if axes != expected_axes else ""
    return (
        f"the shape is the same, but the affine differs: {turned}voxels lie up to {distance:.3g} "
        "mm from those of the image. Export predictions as nnU-Net wrote them"
    )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except READ_ERRORS as error:
        raise UserError(f"{path} {read_failure(error)}") from error
