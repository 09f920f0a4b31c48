"""The cases to view, each with its layers: sequences, truth, prediction, uncertainty."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_s2ca.brats.regions import LabelScheme
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.nifti import FILE_ENDINGS, READ_ERRORS, load_nifti, read_failure
from nnunetv2_s2ca.reporting.case_files import CaseFiles, images_of
from nnunetv2_s2ca.reporting.patient import read_patients
from nnunetv2_s2ca.reporting.runs import find_run
from nnunetv2_s2ca.reporting.scoring import mean_dice

# how files of uncertainty beside a prediction are named after the case
UNCERTAINTY = ("uncertainty", "entropy")


@dataclass(frozen=True)
class ViewedCase:
    """A case in the viewer.

    Attributes:
        files: its files.
        uncertainty: an image of it.
        dice: mean over regions, if the run was evaluated.
        scheme: regions of its labels.
    """

    files: CaseFiles
    uncertainty: Path | None = None
    dice: float = math.nan
    scheme: LabelScheme | None = None

    @property
    def paths(self) -> dict[str, Path]:
        """Layer → file; sequences under their own names."""
        layers = dict(self.files.images)
        for name, path in (
            ("truth", self.files.truth),
            ("prediction", self.files.prediction),
            ("uncertainty", self.uncertainty),
        ):
            if path is not None:
                layers[name] = path
        return layers


def find_cases(
    paths: Sequence[Path],
    *,
    reference: Path | None = None,
    images: Sequence[Path] = (),
    dataset_json: Path | None = None,
) -> tuple[list[ViewedCase], list[str]]:
    """The cases of folders and files, worst first where they were evaluated.

    Args:
        paths: runs as for a report, folders of a patient in BraTS' layout, segmentations, or
            reports of `s2ca segment`.
        reference: folder of true segmentations, or, for one segmentation, its truth.
        images: a folder of images, or the images of one case.
        dataset_json: nnU-Net's file with the regions.

    Returns:
        The cases, and a sentence for each file that cannot be shown.

    Raises:
        UserError: A path does not exist, or there is nothing to show.
    """
    found: list[ViewedCase] = []
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist; expected a folder or a segmentation")
        if path.is_file() and path.name.endswith(FILE_ENDINGS):
            found.append(_single(path, reference, images))
        elif path.is_dir() and (patient := _patient_folder(path)):
            found.append(patient)
        elif path.suffix.lower() == ".json":
            found += _segmented(path)
        else:
            found += _run(path, reference, images, dataset_json)
    problems: list[str] = []
    checked = [_readable(case, problems) for case in found]
    shown = [case for case in checked if case.paths]
    if not shown:
        raise UserError("\n  ".join(["there is nothing to view", *problems]))
    shown.sort(key=lambda case: (math.isnan(case.dice), case.dice, case.files.case))
    return shown, problems


def _segmented(path: Path) -> list[ViewedCase]:
    """The patients of a report of `s2ca segment`, with their scans."""
    return [
        ViewedCase(patient.files, _uncertainty(patient.files.prediction))
        for patient in read_patients(path)
    ]


def _run(
    path: Path, reference: Path | None, images: Sequence[Path], dataset_json: Path | None
) -> list[ViewedCase]:
    folder = images[0] if images else None
    run = find_run(path, reference=reference, images=folder, dataset_json=dataset_json)
    dice = mean_dice(run.scores) if run.scores is not None else {}
    return [
        ViewedCase(case, _uncertainty(case.prediction), dice.get(name, math.nan), run.scheme)
        for name, case in run.cases.items()
        if case.prediction or case.truth
    ]


def _single(path: Path, reference: Path | None, images: Sequence[Path]) -> ViewedCase:
    """A segmentation alone."""
    case = stem(path)
    folder = images[0] if len(images) == 1 and images[0].is_dir() else None
    sequences: Mapping[str, Path] = {}
    if folder is not None or not images:
        sequences = images_of(folder or path.parent, {case: path}).get(case, {})
    else:
        sequences = {stem(image): image for image in images}
    truth = reference
    if reference is not None and reference.is_dir():
        places = [reference / f"{case}{ending}" for ending in FILE_ENDINGS]
        truth = next((place for place in places if place.is_file()), None)
    return ViewedCase(CaseFiles(case, path, truth, sequences), _uncertainty(path))


def _patient_folder(folder: Path) -> ViewedCase | None:
    """A patient in BraTS' layout."""
    images = images_of(folder.parent, {folder.name: None}).get(folder.name)
    if not images:
        return None
    truth = next(
        (
            path
            for path in sorted(folder.iterdir())
            if path.name.endswith(tuple(f"seg{ending}" for ending in FILE_ENDINGS))
        ),
        None,
    )
    return ViewedCase(CaseFiles(folder.name, None, truth, images))


def _readable(case: ViewedCase, problems: list[str]) -> ViewedCase:
    """The case without the files that are no NIfTI images."""
    bad = set()
    for layer, path in case.paths.items():
        try:
            load_nifti(path)
        except READ_ERRORS as error:
            bad.add(layer)
            problems.append(f"{path} {read_failure(error)}")
    files = case.files
    kept = CaseFiles(
        files.case,
        None if "prediction" in bad else files.prediction,
        None if "truth" in bad else files.truth,
        {name: path for name, path in files.images.items() if name not in bad},
        fold=files.fold,
    )
    uncertainty = None if "uncertainty" in bad else case.uncertainty
    return ViewedCase(kept, uncertainty, case.dice, case.scheme)


def _uncertainty(prediction: Path | None) -> Path | None:
    if prediction is None:
        return None
    names = [
        f"{stem(prediction)}{separator}{word}{ending}"
        for word in UNCERTAINTY
        for separator in "_-."
        for ending in FILE_ENDINGS
    ]
    return next((path for name in names if (path := prediction.with_name(name)).is_file()), None)


def stem(path: Path) -> str:
    """A NIfTI file's name without its ending."""
    ending = next((ending for ending in FILE_ENDINGS if path.name.endswith(ending)), "")
    return path.name.removesuffix(ending)
