"""Find the out-of-fold predictions of a cross-validation."""

from __future__ import annotations

import os
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.folds import fold_folders, read_splits
from nnunetv2_s2ca.core.nnunet import PREPROCESSED
from nnunetv2_s2ca.evaluation.cohort import CasePair
from nnunetv2_s2ca.evaluation.segmentations import find_segmentations


def out_of_fold_pairs(
    model: Path, *, reference: Path, splits: Path
) -> tuple[list[CasePair], list[int]]:
    """The validation predictions of all folds of a model folder, with their truth.

    Args:
        model: nnU-Net's folder of a trained model, with `fold_0/validation` and so on.
        reference: Folder with the truth, in nnU-Net's labels.
        splits: The `splits_final.json` that the folds were trained with.

    Returns:
        The pairs, and the numbers of the folds without predictions.

    Raises:
        UserError: There is no fold; a fold's predictions are not exactly the cases that it holds
            out; a case is held out by two folds; or a case has no reference. All folds and cases
            at fault are named.
    """
    folds = {
        number: folder
        for number, folder in fold_folders(model).items()
        if (folder / "validation").is_dir()
    }
    if not folds:
        raise UserError(
            f"{model} has no fold_N/validation; train the folds first (s2ca crossval). fold_all "
            "holds no cases out, so the rules cannot be fitted on it"
        )
    split = read_splits(splits)
    references = find_segmentations(reference)
    pairs: dict[str, CasePair] = {}
    problems: list[str] = []
    for number, folder in folds.items():
        if number >= len(split):
            problems.append(f"{splits} has {len(split)} folds, but there is a {folder}")
            continue
        predictions = find_segmentations(folder / "validation")
        problems += _problems_of_fold(number, split[number], predictions, splits=splits)
        for case, path in predictions.items():
            if case in pairs:
                problems.append(f"{case} is held out twice: {pairs[case].prediction} and {path}")
            elif case not in references:
                problems.append(f"{case}: no reference in {reference}")
            else:
                pairs[case] = CasePair(case, references[case], path)
    if problems:
        raise UserError("\n  ".join(["the folds are inconsistent:", *problems]))
    missing = [number for number in range(len(split)) if number not in folds]
    return [pairs[case] for case in sorted(pairs)], missing


def preprocessed_folder(model: Path) -> Path:
    """The folder in nnUNet_preprocessed of a trained model's dataset.

    Raises:
        UserError: There is none.
    """
    base = os.environ.get(PREPROCESSED)
    dataset = model.resolve().parent.name
    if base is None or not (Path(base) / dataset).is_dir():
        raise UserError(
            f"nnUNet_preprocessed is {base or 'not set'} and has no {dataset}, the dataset of "
            f"{model}; name `reference` and `splits`"
        )
    return Path(base) / dataset


def _problems_of_fold(
    number: int, fold: dict[str, list[str]], predictions: dict[str, Path], *, splits: Path
) -> list[str]:
    """How a fold's predictions differ from the cases that it held out."""
    trained, held_out = set(fold["train"]), set(fold["val"])
    problems = []
    if trained & held_out:
        problems.append(f"{splits}: fold {number} trains on cases that it validates on")
    problems += [
        f"{predictions[case]}: fold {number} was trained on this case according to {splits}; only "
        "out-of-fold predictions can be used for the fit"
        for case in sorted(predictions.keys() & (trained - held_out))
    ]
    problems += [
        f"{predictions[case]}: this case is not in fold {number} of {splits}"
        for case in sorted(predictions.keys() - trained - held_out)
    ]
    problems += [
        f"{case}: fold {number} has no prediction; run its validation again (s2ca crossval)"
        for case in sorted(held_out - predictions.keys())
    ]
    return problems
