"""Fit the rules' sizes for a trained model on its cross-validation."""

from __future__ import annotations

import os
from pathlib import Path

from nnunetv2_s2ca.brats.regions import find_dataset_json, scheme_of_dataset
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_output_folder
from nnunetv2_s2ca.core.lock import output_lock
from nnunetv2_s2ca.postprocessing.fitting import Fitted, fit_rules
from nnunetv2_s2ca.postprocessing.out_of_fold import out_of_fold_pairs

DEFAULT_FILE = "s2ca_postprocessing.json"


def fit_model(
    model: Path,
    *,
    dataset_json: Path | None = None,
    output: Path | None = None,
    reference: Path | None = None,
    splits: Path | None = None,
    fill_holes: bool = False,
    processes: int | None = None,
    overwrite: bool = False,
) -> tuple[Path, Fitted, list[int]]:
    """Fit the rules on a trained model's out-of-fold predictions and write them as JSON.

    Args:
        model: nnU-Net's folder of a trained model, `nnUNet_results/DATASET/TRAINER__PLANS__CONF`.
        dataset_json: nnU-Net's file with the regions and labels; default `dataset.json` in `model`.
        output: The file to write; default `s2ca_postprocessing.json` in `model`.
        reference: Folder with the truth; default `gt_segmentations` of the dataset in
            `nnUNet_preprocessed`.
        splits: File with the folds; default `splits_final.json` of the dataset in
            `nnUNet_preprocessed`.
        fill_holes: As in `fit_rules`.
        processes: Worker processes; all cores if None.
        overwrite: Replace an existing `output`.

    Returns:
        The file, its content, and the folds left out for lack of predictions.

    Raises:
        UserError: As in `out_of_fold_pairs` and `fit_rules`, or the output exists, is a folder,
            or cannot be written.
    """
    if not model.is_dir():
        raise UserError(f"{model} is not a folder; expected nnU-Net's folder of a trained model")
    output = output or model / DEFAULT_FILE
    if output.is_dir():
        raise UserError(f"{output} is a folder; name a file for the rules (`output`)")
    if output.exists() and not overwrite:
        raise UserError(
            f"{output} exists; pass `overwrite=True` to replace it, or name another file"
        )
    check_output_folder(output.parent)
    scheme = scheme_of_dataset(dataset_json or find_dataset_json(model))
    if reference is None or splits is None:
        folder = _preprocessed_folder(model)
        reference = reference or folder / "gt_segmentations"
        splits = splits or folder / "splits_final.json"
    with output_lock(output):
        pairs, missing = out_of_fold_pairs(model, reference=reference, splits=splits)
        fitted = fit_rules(pairs, scheme=scheme, fill_holes=fill_holes, processes=processes)
        fitted.rules.write(
            output,
            fitted_on={
                "model": str(model),
                "splits": str(splits),
                "cases": len(pairs),
                "missing_folds": missing,
            },
            scores={"before": fitted.before.as_json(), "after": fitted.after.as_json()},
        )
    return output, fitted, missing


def _preprocessed_folder(model: Path) -> Path:
    base = os.environ.get("nnUNet_preprocessed")  # noqa: SIM112 - nnU-Net's spelling
    dataset = model.resolve().parent.name
    if base is None or not (Path(base) / dataset).is_dir():
        raise UserError(
            f"nnUNet_preprocessed is {base or 'not set'} and has no {dataset}, the dataset of "
            f"{model}; name `reference` and `splits`"
        )
    return Path(base) / dataset
