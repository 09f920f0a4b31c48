"""Segment one patient, or a folder of patients, from their scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from nnunetv2_s2ca.api.logger import report as say
from nnunetv2_s2ca.brats.editions import Edition, edition_named
from nnunetv2_s2ca.brats.sequences import SEQUENCES, sequence_named
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.text import in_few_words
from nnunetv2_s2ca.postprocessing.rules import PostprocessingRules, check_rules, read_rules
from nnunetv2_s2ca.segmentation.edition import check_edition
from nnunetv2_s2ca.segmentation.folder import Places, segment_patients
from nnunetv2_s2ca.segmentation.model import LoadedModel, PredictorSettings, load_model
from nnunetv2_s2ca.segmentation.outputs import Outputs
from nnunetv2_s2ca.segmentation.patient import Segmented, SegmentOptions, segment_patient


@dataclass(frozen=True)
class SegmentedFolder:
    """The results of a folder of patients.

    Attributes:
        output: The folder of the segmentations.
        segmented: Case identifier → result.
        failed: Case identifier → what is wrong with it.
        skipped: Case identifiers that had a segmentation already.
    """

    output: Path
    segmented: dict[str, Segmented]
    failed: dict[str, str]
    skipped: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.segmented)} patients segmented in {self.output}"]
        if self.skipped:
            lines.append(f"{len(self.skipped)} had a segmentation already")
        if self.failed:
            lines.append(f"{len(self.failed)} could not be segmented:")
            lines += [f"  {name}: {reason}" for name, reason in self.failed.items()]
        return "\n".join(lines)


def segment(
    scans: Mapping[str, str | PathLike[str]],
    output: str | PathLike[str],
    *,
    model: str | PathLike[str],
    folds: Sequence[int | str] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    device: str | None = None,
    mirroring: bool = True,
    step_size: float = 0.5,
    space: str | None = None,
    edition: str | None = None,
    postprocessing: str | PathLike[str] | bool = False,
    probabilities: bool = False,
    uncertainty: bool = False,
    report: str | PathLike[str] | None = None,
    preview: str | PathLike[str] | None = None,
    native: str | PathLike[str] | None = None,
    overwrite: bool = False,
) -> Segmented:
    """Segment one patient through nnU-Net's predictor; the result lies on the patient's own grid.

    Scans are turned to the orientation of the training data, and the result back. Scans on other
    grids are resampled to that of `space`, with a warning.

    Args:
        scans: Sequence (`t1`, `t1ce`, `t2`, `flair`) → NIfTI file, or folder of one DICOM series.
        output: The segmentation to write, `.nii.gz` or `.nii`.
        model: Folder of a trained model, or a zip file of `pack_model` or
            `nnUNetv2_export_model_to_zip`.
        folds: Folds to average; all that the model has if None.
        checkpoint: Name of the checkpoints.
        device: `cuda`, `cpu` or `mps`; if None, a GPU if there is one.
        mirroring: Average over mirrored images.
        step_size: Of the sliding window, as a share of the patch.
        space: Sequence whose grid the result gets; the T1ce if None.
        edition: Write the labels of this edition, such as `brats2019`; the model's own if None.
        postprocessing: File of `fit_postprocessing` to apply, or True for the model's own.
        probabilities: Also write the probability of each region, as `…_probability_WT.nii.gz`.
        uncertainty: Also write the entropy and how folds and mirrorings disagree, as
            `…_entropy.nii.gz` and `…_disagreement_WT.nii.gz`.
        report: JSON file for volumes, lesions, warnings and versions.
        preview: PNG file for three planes through the tumour.
        native: The folder `transforms` that `prepare` wrote beside the scans: also write the labels
            on the grid of `space` as the scanner gave it, as `…_native.nii.gz`.
        overwrite: Replace existing files.

    Raises:
        UserError: A sequence is missing, a scan cannot be read or fits no other, the model cannot
            be loaded, the transforms belong to other scans, or an output exists; nothing is
            written.
    """
    named = _scans(scans)
    outputs = Outputs(Path(output), _path(report), _path(preview))
    outputs.check(named.values(), (), overwrite=overwrite)
    loaded, options = _prepare(
        Path(model),
        _settings(folds, checkpoint, device, mirroring=mirroring, step_size=step_size),
        SegmentOptions(
            _space(space),
            _edition(edition),
            None,
            probabilities,
            uncertainty,
            overwrite,
            _path(native),
        ),
        postprocessing,
    )
    return segment_patient(named, outputs, loaded, options, say=say)


def segment_folder(
    source: str | PathLike[str],
    output: str | PathLike[str],
    *,
    model: str | PathLike[str],
    folds: Sequence[int | str] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    device: str | None = None,
    mirroring: bool = True,
    step_size: float = 0.5,
    space: str | None = None,
    edition: str | None = None,
    postprocessing: str | PathLike[str] | bool = False,
    probabilities: bool = False,
    uncertainty: bool = False,
    report: str | PathLike[str] | None = None,
    preview: str | PathLike[str] | None = None,
    continue_prediction: bool = False,
    overwrite: bool = False,
) -> SegmentedFolder:
    """Segment all patients in a folder, as `segment` does one; the model is loaded once.

    A patient who cannot be segmented is reported, and the others are segmented all the same.

    Args:
        source: Folder with files named as BraTS or nnU-Net names them, in any subfolders.
        output: Folder for the segmentations, `CASE.nii.gz`.
        model: As in `segment`, and so are the arguments below, but for these:
        folds: see there.
        checkpoint: see there.
        device: see there.
        mirroring: see there.
        step_size: see there.
        space: see there.
        edition: see there.
        postprocessing: see there.
        probabilities: see there.
        uncertainty: see there.
        report: One JSON file for all patients.
        preview: Folder for a picture of each patient, `CASE.png`.
        continue_prediction: Leave patients out who have a segmentation.
        overwrite: Replace existing files.

    Raises:
        UserError: There is no patient, the model cannot be loaded, or the output cannot be written.
    """
    loaded, options = _prepare(
        Path(model),
        _settings(folds, checkpoint, device, mirroring=mirroring, step_size=step_size),
        SegmentOptions(
            _space(space), _edition(edition), None, probabilities, uncertainty, overwrite
        ),
        postprocessing,
    )
    places = Places(Path(output), _path(report), _path(preview), continue_prediction)
    done = segment_patients(Path(source), places, loaded, options, say=say)
    return SegmentedFolder(Path(output), done.segmented, done.failed, done.skipped)


def _prepare(
    model: Path,
    settings: PredictorSettings,
    options: SegmentOptions,
    postprocessing: str | PathLike[str] | bool,
) -> tuple[LoadedModel, SegmentOptions]:
    """Load the model, and check that all that is asked for fits it."""
    loaded = load_model(model, settings)
    if options.edition is not None:
        check_edition(loaded, options.edition)
    return loaded, replace(options, rules=_rules(loaded, postprocessing))


def _edition(name: str | None) -> Edition | None:
    return None if name is None else edition_named(name)


def _scans(scans: Mapping[str, str | PathLike[str]]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for name, path in scans.items():
        sequence = sequence_named(name)
        if sequence is None or sequence in named:
            raise UserError(
                f"the scan {in_few_words(name)}: expected each of "
                f"{', '.join(known.lower() for known in SEQUENCES)} at most once"
            )
        named[sequence] = Path(path)
    if not named:
        raise UserError("no scan is named; expected the files of one patient's sequences")
    return named


def _space(space: str | None) -> str | None:
    sequence = sequence_named(space) if space is not None else None
    if space is not None and sequence is None:
        raise UserError(
            f"`space` is {in_few_words(space)}; expected one of "
            f"{', '.join(known.lower() for known in SEQUENCES)}"
        )
    return sequence


def _settings(
    folds: Sequence[int | str] | None,
    checkpoint: str,
    device: str | None,
    *,
    mirroring: bool,
    step_size: float,
) -> PredictorSettings:
    named = None if folds is None else tuple(map(str, folds))
    for fold in named or ():
        if not fold.isdecimal() and fold != "all":
            raise UserError(f"`folds` names {in_few_words(fold)}; expected numbers, or all")
    if named == ():
        raise UserError("`folds` is empty; name one, or leave it out to use all")
    if Path(checkpoint).name != checkpoint:
        raise UserError(f"`checkpoint` is {in_few_words(checkpoint)}; expected a file's name")
    return PredictorSettings(named, checkpoint, device, mirroring, step_size)


def _rules(
    model: LoadedModel, postprocessing: str | PathLike[str] | bool
) -> PostprocessingRules | None:
    if postprocessing is False:
        return None
    if postprocessing is True:
        if model.rules is None:
            raise UserError(
                f"{model.name} has no post-processing of its own; fit it with "
                "`s2ca postprocess --fit`, or name a file (`postprocessing`)"
            )
        rules = model.rules
    else:
        rules = read_rules(Path(postprocessing))
    check_rules(rules, model.scheme.regions)
    return rules


def _path(path: str | PathLike[str] | None) -> Path | None:
    return None if path is None else Path(path)
