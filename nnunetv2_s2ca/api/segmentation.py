"""Segment one patient, or a folder of patients, from their scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from nnunetv2_s2ca.api.logger import report as say
from nnunetv2_s2ca.brats.editions import edition_named
from nnunetv2_s2ca.brats.sequences import SEQUENCES, sequence_named
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.text import in_few_words
from nnunetv2_s2ca.postprocessing.rules import PostprocessingRules, check_rules, read_rules
from nnunetv2_s2ca.segmentation.edition import check_edition
from nnunetv2_s2ca.segmentation.model import LoadedModel, PredictorSettings, load_model
from nnunetv2_s2ca.segmentation.outputs import Outputs
from nnunetv2_s2ca.segmentation.patient import Segmented, SegmentOptions, segment_patient


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
    report: str | PathLike[str] | None = None,
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
        report: JSON file for volumes, lesions, warnings and versions.
        overwrite: Replace existing files.

    Raises:
        UserError: A sequence is missing, a scan cannot be read or fits no other, the model cannot
            be loaded, or an output exists; nothing is written.
    """
    named = _scans(scans)
    outputs = Outputs(Path(output), report=_path(report))
    outputs.check(named.values(), (), overwrite=overwrite)
    settings = _settings(folds, checkpoint, device, mirroring=mirroring, step_size=step_size)
    known = edition_named(edition) if edition is not None else None
    wanted = _space(space)
    loaded = load_model(Path(model), settings)
    if known is not None:
        check_edition(loaded, known)
    options = SegmentOptions(
        space=wanted,
        edition=known,
        rules=_rules(loaded, postprocessing),
        overwrite=overwrite,
    )
    return segment_patient(named, outputs, loaded, options, say=say)


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
