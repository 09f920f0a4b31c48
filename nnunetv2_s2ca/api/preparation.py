"""Prepare a patient's raw scans for models of BraTS, and carry results back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from os import PathLike
from pathlib import Path

import SimpleITK as sitk

from nnunetv2_s2ca.api.jobs import available_device
from nnunetv2_s2ca.api.logger import report as say
from nnunetv2_s2ca.brats.editions import Edition, edition_named
from nnunetv2_s2ca.brats.sequences import SEQUENCES, sequence_named
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_output_folder, whole_file
from nnunetv2_s2ca.core.folders import check_apart, replaced_folder
from nnunetv2_s2ca.core.text import in_few_words
from nnunetv2_s2ca.imaging.scans import Scan, header_of, nifti_bytes, read_scan
from nnunetv2_s2ca.preparation.atlas import read_atlas
from nnunetv2_s2ca.preparation.brain import check_hd_bet, find_brain, read_mask, volume_warning
from nnunetv2_s2ca.preparation.case import prepare_case, reference_of, write_case
from nnunetv2_s2ca.preparation.native import to_native as carry_to_native
from nnunetv2_s2ca.segmentation.checks import LEAST_BACKGROUND, check_different

CASE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
FEWEST_VOXELS = 8  # along an axis
LARGEST_SPACING = 10.0  # mm; more is no image of a head, or its header is wrong


@dataclass(frozen=True)
class Preparation:
    """A prepared patient.

    Attributes:
        folder: The case's folder.
        images: Sequence → its file.
        quality: The picture to look at.
        warnings: What looks wrong.
    """

    folder: Path
    images: dict[str, Path]
    quality: Path
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        return f"wrote {', '.join(self.images)} to {self.folder}; look at {self.quality}"


def prepare(
    scans: Mapping[str, str | PathLike[str]],
    output: str | PathLike[str],
    *,
    atlas: str | PathLike[str] | None = None,
    mask: str | PathLike[str] | None = None,
    no_skull_stripping: bool = False,
    bias_field: bool = False,
    edition: str = "brats2023-gli",
    device: str | None = None,
    overwrite: bool = False,
) -> Preparation:
    """Bring a patient's raw scans to what models of BraTS expect. Not for clinical use.

    The other sequences are registered rigidly to the T1ce, the T1ce by an affine transform to the
    atlas, and each image is resampled once. The folder holds the images, `transforms/` and
    `quality.png`, and nothing that tells whose they are; it appears once it is complete.

    Args:
        scans: Sequence (`t1`, `t1ce`, `t2`, `flair`) → NIfTI file, or folder of one DICOM series.
        output: The case's folder; its name is the case identifier.
        atlas: A skull-stripped atlas; nilearn's MNI152 at 1 mm if None. BraTS uses SRI24.
        mask: A brain mask on the grid of the T1ce, or of the first of T1, T2, FLAIR without one.
            If None, HD-BET finds the brain.
        no_skull_stripping: The scans have no skull.
        bias_field: Correct the bias field (N4) before registrations; the images written keep their
            intensities.
        edition: Names of the files.
        device: For HD-BET: `cuda`, `cpu` or `mps`; a GPU if there is one if None.
        overwrite: Replace an existing folder.

    Raises:
        UserError: A scan, the mask or the atlas cannot be used, HD-BET or its weights are missing,
            or the output exists or cannot be written; nothing is written.
    """
    output = Path(output)
    files = {_sequence(name): Path(path) for name, path in scans.items()}
    names = _file_names(edition_named(edition), output, files, given=len(scans))
    mask, atlas = (None if path is None else Path(path) for path in (mask, atlas))
    if mask is not None and no_skull_stripping:
        raise UserError("a brain mask (`mask`) and `no_skull_stripping=True` exclude each other")
    check_apart(output, *files.values(), *(path for path in (mask, atlas) if path is not None))
    check_output_folder(output)
    if mask is None and not no_skull_stripping:
        check_hd_bet()
    with replaced_folder(output, overwrite=overwrite) as folder:
        warnings = [f"{name} is missing; models need it" for name in SEQUENCES if name not in files]
        known = {name: _read(path) for name, path in files.items()}
        check_different(known)
        for scan in known.values():
            warnings += scan.remarks
        target = read_atlas(atlas)
        warnings += target.warnings
        reference = known[reference_of(known)]
        brain = None
        if mask is not None:
            brain = read_mask(mask, reference)
        elif not no_skull_stripping:
            say("looking for the brain with HD-BET")
            brain = find_brain(reference, device or available_device())
        warnings += _about_skull(reference, brain)
        prepared = prepare_case(known, brain, target, bias_field=bias_field, say=say)
        warnings += prepared.warnings()
        about = {
            "versions": {"nnunetv2-s2ca": version("nnunetv2-s2ca"), "SimpleITK": sitk.__version__},
            "skull_stripping": "mask" if mask else "none" if no_skull_stripping else "HD-BET",
            "bias_field": bias_field,
            "warnings": [_without_paths(line, [*files.values(), mask, atlas]) for line in warnings],
        }
        write_case(folder, prepared, target, names=names, about=about)
    for line in warnings:
        say(f"warning: {line}")
    images = {name: output / names[name] for name in SEQUENCES if name in files}
    return Preparation(output, images, output / "quality.png", tuple(warnings))


def to_native(
    segmentation: str | PathLike[str],
    transforms: str | PathLike[str],
    output: str | PathLike[str],
    *,
    sequence: str = "t1ce",
    overwrite: bool = False,
) -> Path:
    """Carry a segmentation of prepared images back to the scanner's space.

    Args:
        segmentation: Labels on the grid of the prepared images.
        transforms: The folder `transforms` that `prepare` wrote.
        output: The file to write, `.nii.gz`.
        sequence: Whose grid the result gets.
        overwrite: Replace an existing file.

    Returns:
        The file.

    Raises:
        UserError: Segmentation and transforms do not belong together, one of them is damaged, or
            the output exists.
    """
    output = Path(output)
    if not output.name.endswith(".nii.gz"):
        raise UserError(f"{output}: expected a name that ends in .nii.gz")
    if output.exists() and not overwrite:
        raise UserError(f"{output} exists; pass `overwrite=True` to replace it")
    check_apart(output, Path(segmentation), Path(transforms))
    labels = read_scan(Path(segmentation), may_be_empty=True).image
    native = carry_to_native(labels, Path(transforms), sequence=_sequence(sequence))
    with whole_file(output) as temporary:
        voxels = sitk.GetArrayFromImage(native)
        temporary.write_bytes(nifti_bytes(voxels, header_of(native)))
    return output


def _sequence(name: str) -> str:
    sequence = sequence_named(name)
    if sequence is None:
        raise UserError(
            f"the sequence {in_few_words(name)} is unknown; expected one of "
            f"{', '.join(known.lower() for known in SEQUENCES)}"
        )
    return sequence


def _file_names(
    edition: Edition, output: Path, files: Mapping[str, Path], *, given: int
) -> dict[str, str]:
    """Sequence → name of its file."""
    if not files or len(files) < given:
        raise UserError(
            f"expected each of {', '.join(known.lower() for known in SEQUENCES)} at most once, and "
            "at least one of them"
        )
    if edition.four_dimensional:
        raise UserError(f"{edition.name} has one file for all sequences; choose another `edition`")
    if other := files.keys() - edition.suffixes.keys():
        raise UserError(
            f"{edition.name} has no {' and no '.join(sorted(other))}; leave it out, or choose "
            "another `edition`"
        )
    if not CASE_NAME.fullmatch(output.name):
        raise UserError(
            f"{output}: its name becomes the case identifier; expected letters from A to Z, "
            "digits, - and _"
        )
    return {
        name: f"{output.name}{edition.separator}{edition.suffixes[name]}.nii.gz" for name in files
    }


def _read(path: Path) -> Scan:
    scan = read_scan(path)
    image = scan.image
    if min(image.GetSize()) < FEWEST_VOXELS:
        raise UserError(
            f"{path} has {' × '.join(map(str, image.GetSize()))} voxels; expected {FEWEST_VOXELS} "
            "or more along each axis"
        )
    if max(image.GetSpacing()) > LARGEST_SPACING:
        raise UserError(
            f"{path} has voxels of {' × '.join(f'{size:.3g}' for size in image.GetSpacing())} mm; "
            f"expected at most {LARGEST_SPACING:g} mm. Is its header right?"
        )
    return scan


def _about_skull(reference: Scan, brain: sitk.Image | None) -> list[str]:
    if brain is not None:
        warning = volume_warning(brain)
        return [warning] if warning else []
    share = float((reference.voxels == 0).mean())
    if share >= LEAST_BACKGROUND:
        return []
    return [
        f"{share:.0%} of {reference.path} is 0, so the skull seems to be there; models of BraTS "
        "expect stripped brains on a background of 0"
    ]


def _without_paths(line: str, paths: list[Path | None]) -> str:
    """A warning for the record: file names may tell whose image it is."""
    for path in paths:
        line = line.replace(str(path), "the file") if path is not None else line
    return line
