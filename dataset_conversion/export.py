"""Predictions go back into the labels, names and geometry of the edition they come from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from nnunetv2_s2ca.brats.editions import Edition
from nnunetv2_s2ca.brats.labels import as_labels, relabel
from nnunetv2_s2ca.core.errors import UserError, disk_errors_named
from nnunetv2_s2ca.core.files import check_output_folder, read_json, whole_file
from nnunetv2_s2ca.core.nifti import (
    READ_ERRORS,
    compressed_nifti,
    load_nifti,
    nifti_image,
    read_voxels,
    write_compressed,
)
from nnunetv2_s2ca.core.nnunet import find_raw_dataset
from nnunetv2_s2ca.core.workers import map_cases
from nnunetv2_s2ca.dataset_conversion.check import AFFINE_TOLERANCE
from nnunetv2_s2ca.dataset_conversion.record import read_record


@disk_errors_named()
def export(
    dataset: Path | int, predictions: Path, output: Path, *, processes: int | None = None
) -> list[Path]:
    """Write predictions as the challenge takes them: uint8, `<case>.nii.gz`.

    Labels are those of the edition. Where the dataset holds the case's images, the affine is theirs
    to the bit. Each file is read again after it was written.

    Args:
        dataset: folder in nnUNet_raw, or its id.
        predictions: folder of nnU-Net's predictions, as it writes them (.nii.gz or .nii).
        output: folder for the files; made if need be.
        processes: worker processes; all cores if not given.

    Returns:
        The files written.

    Raises:
        UserError: if there is no prediction, or two of one case, one holds a label that the edition
            does not know or has another geometry than the case's images, a file to be written
            exists, or the folder for the files is a file or cannot be written to.
    """
    folder = find_raw_dataset(dataset) if isinstance(dataset, int) else Path(dataset)
    edition = read_record(folder).edition
    predictions, output = Path(predictions), Path(output)
    files = sorted(
        path
        for path in (predictions.iterdir() if predictions.is_dir() else ())
        if path.name.endswith((".nii.gz", ".nii")) and not path.name.startswith(".")
    )
    if not files:
        raise UserError(f"{predictions} holds no prediction; expected files ending in .nii.gz")
    check_output_folder(output)
    by_case = {_case_of(path): path for path in files}
    for path in files:
        if path != (other := by_case[_case_of(path)]):
            raise UserError(f"{path} and {other.name} are of one case; remove one of them")
    targets = [output / f"{case}.nii.gz" for case in by_case]
    existing = [target for target in targets if target.exists()]
    if existing:
        raise UserError(f"{existing[0]} exists; give an empty folder")
    references = _references(folder, edition)
    # all are looked at before the first is written
    check = partial(_read, edition=edition, references=references)
    map_cases(check, files, processes=processes, title="check")
    output.mkdir(parents=True, exist_ok=True)
    write = partial(_export_one, edition=edition, references=references, output=output)
    return map_cases(write, files, processes=processes, title="export")


def _case_of(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _references(folder: Path, edition: Edition) -> dict[str, Path]:
    """Case → one of its images, for the geometry."""
    description = read_json(folder / "dataset.json")
    ending = f"_0000{description['file_ending']}"
    images = {
        path.name.removesuffix(ending): path
        for sub in ("imagesTr", "imagesTs")
        for path in (folder / sub).glob(f"*{ending}")
    }
    linked = description.get("dataset", {})
    return {**images, **{case: Path(entry["images"][0]) for case, entry in linked.items()}}


def _read(
    path: Path, *, edition: Edition, references: dict[str, Path]
) -> tuple[np.ndarray, np.ndarray]:
    """Read a prediction: labels of the edition, and the affine."""
    with _naming(path):
        affine, data = load_nifti(path).affine, read_voxels(path)
    known = edition.source_labels
    try:
        labels, _ = as_labels(data, known)
    except ValueError as error:
        raise UserError(f"{path} {error}, which are nnU-Net's labels of {edition.name}") from error
    reference = references.get(_case_of(path))
    if reference is not None:
        with _naming(reference):
            original = load_nifti(reference)
        if original.shape[:3] != data.shape or not np.allclose(
            original.affine, affine, atol=10 * AFFINE_TOLERANCE
        ):
            raise UserError(
                f"{path} has another geometry than {reference}; expected the shape "
                f"{original.shape[:3]}, got {data.shape}"
            )
        affine = original.affine
    return relabel(labels, known), affine


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except READ_ERRORS as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _export_one(path: Path, *, edition: Edition, references: dict[str, Path], output: Path) -> Path:
    labels, affine = _read(path, edition=edition, references=references)
    target = output / f"{_case_of(path)}.nii.gz"
    try:
        with whole_file(target) as temporary:
            write_compressed(compressed_nifti(nifti_image(labels, affine)), temporary)
            if not np.array_equal(read_voxels(temporary), labels) or not np.array_equal(
                load_nifti(temporary).affine, affine.astype(np.float32)
            ):
                raise UserError(f"{target} does not read as it was written; check the disk")
    except OSError as error:  # a full disk's does not tell the file
        raise UserError(f"{target} cannot be written: {error.strerror or error}") from error
    return target
