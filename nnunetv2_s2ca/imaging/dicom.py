"""Reading one DICOM series from a folder, by SimpleITK; of several, none is guessed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.text import excerpt
from nnunetv2_s2ca.dataset_conversion.geometry import without_warnings

# DICOM's tags, as SimpleITK spells them. None of them identifies the patient.
DESCRIPTION, NUMBER = "0008|103e", "0020|0011"
POSITION, ORIENTATION = "0020|0032", "0020|0037"

MAGIC, MAGIC_OFFSET = b"DICM", 128  # how a DICOM file begins

GAP_TOLERANCE = 0.05  # of the distance between slices, which scanners round
ANGLE_TOLERANCE = 1e-3  # of the slices' directions, as cosines
LISTED = 20  # series in an error


@dataclass(frozen=True)
class DicomSeries:
    """One series of DICOM files.

    Attributes:
        folder: Where its files are.
        files: Its files, sorted along the slices' normal.
        number: The scanner's number of the series; empty if the files have none.
        description: The scanner's description, such as `t1_mprage_sag`; empty likewise.
    """

    folder: Path
    files: tuple[str, ...]
    number: str
    description: str

    def __str__(self) -> str:
        name = excerpt(self.description) or "no description"
        number = f"series {excerpt(self.number)}" if self.number else "a series without a number"
        count = f"{len(self.files)} file{'s' * (len(self.files) > 1)}"
        return f"{number}, {name}: {count} in {self.folder}"


def find_series(folder: Path) -> list[DicomSeries]:
    """All DICOM series in a folder and its subfolders, by their UID; other files are ignored.

    Raises:
        UserError: The folder cannot be read.
    """
    found = []
    reader = sitk.ImageSeriesReader
    for place in _folders(folder):
        with without_warnings():
            for identifier in reader.GetGDCMSeriesIDs(str(place)):
                files = reader.GetGDCMSeriesFileNames(str(place), identifier)
                tags = _tags(files[0])
                number, description = tags.get(NUMBER, ""), tags.get(DESCRIPTION, "")
                found.append(DicomSeries(place, tuple(files), number, description))
    return found


def read_dicom(folder: Path) -> sitk.Image:
    """The one DICOM series of a folder as a 3D image, in the scanner's coordinates (LPS, mm).

    Intensities are rescaled as the files say. The image carries no tag of the files.

    Args:
        folder: Searched with its subfolders.

    Raises:
        UserError: It holds no series or several, a file is damaged, a slice is missing or there
            twice, the slices are not parallel, or the series is no 3D image of one number per
            voxel.
    """
    series = find_series(folder)
    if not series:
        raise UserError(
            f"{folder} holds no DICOM series; expected the files of one, or name a NIfTI file"
        )
    if len(series) > 1:
        listed = "\n  ".join(map(str, series[:LISTED]))
        more = f"\n  … and {len(series) - LISTED} more" if len(series) > LISTED else ""
        raise UserError(
            f"{folder} holds {len(series)} DICOM series; expected one. Name a folder that holds "
            f"only the files of the one you mean:\n  {listed}{more}"
        )
    (only,) = series
    _check_all_read(folder, only)
    _check_slices(only)
    try:
        with without_warnings():
            source = only.files if len(only.files) > 1 else only.files[0]
            image = sitk.ReadImage(source)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"{only} cannot be read: {excerpt(reason)}") from error
    if image.GetNumberOfComponentsPerPixel() != 1 or image.GetDimension() != 3:
        raise UserError(f"{only} holds colours or more than 3 axes; expected one number per voxel")
    if min(image.GetSize()) < 2:
        raise UserError(f"{only} holds one slice; expected a 3D image")
    for key in image.GetMetaDataKeys():  # the patient's name is among them
        image.EraseMetaData(key)
    return image


def _folders(folder: Path) -> Iterator[Path]:
    """The folder and its subfolders, except hidden ones."""

    def fail(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error

    for place, subfolders, files in os.walk(folder, onerror=fail):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if files:
            yield Path(place)


def _tags(file: str) -> dict[str, str]:
    """The tags of one file that this module uses."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise UserError(f"{file} is a damaged DICOM file; export the series again") from error
    wanted = (DESCRIPTION, NUMBER, POSITION, ORIENTATION)
    return {key: reader.GetMetaData(key).strip() for key in wanted if reader.HasMetaDataKey(key)}


def _check_all_read(folder: Path, series: DicomSeries) -> None:
    """Refuse a damaged file, which GDCM passes over: at an end, its slice would not be missed."""
    known = {Path(file) for file in series.files}
    for place in _folders(folder):
        for path in sorted(place.iterdir()):
            if path not in known and path.name.upper() != "DICOMDIR" and _is_dicom(path):
                raise UserError(
                    f"{path} is a DICOM file without a readable image; export the series again, "
                    "or move the file"
                )


def _is_dicom(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(MAGIC_OFFSET + len(MAGIC))[MAGIC_OFFSET:] == MAGIC


def _check_slices(series: DicomSeries) -> None:
    """Refuse a series whose slices do not form a regular, parallel stack.

    ITK would place them at equal distances all the same, and warn at most.
    """
    if len(series.files) == 1:  # all slices in one file
        return
    with without_warnings():
        tags = [_tags(file) for file in series.files]
    try:
        positions = np.array([_numbers(tag[POSITION], 3) for tag in tags])
        orientations = np.array([_numbers(tag[ORIENTATION], 6) for tag in tags])
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{series}: a file does not say where its slice lies (ImagePositionPatient, "
            "ImageOrientationPatient); export the series again, with its geometry"
        ) from error
    if np.abs(orientations - orientations[0]).max() > ANGLE_TOLERANCE:
        raise UserError(f"{series}: the slices are not parallel; expected one stack of slices")
    normal = np.cross(orientations[0, :3], orientations[0, 3:])
    gaps = np.diff(np.sort(positions @ normal))
    usual = float(np.median(gaps))
    if gaps.min() < GAP_TOLERANCE * max(usual, 1e-3):
        raise UserError(
            f"{series}: two slices lie at the same place; expected one 3D image. Split the series "
            "by echo, time point or diffusion weighting, or remove the copies"
        )
    if np.abs(gaps - usual).max() > GAP_TOLERANCE * usual:
        raise UserError(
            f"{series}: slices are {gaps.min():.4g} to {gaps.max():.4g} mm apart; expected equal "
            "distances. Slices may be missing; export the series again"
        )


def _numbers(text: str, count: int) -> list[float]:
    numbers = [float(part) for part in text.split("\\")]
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(text)
    return numbers
