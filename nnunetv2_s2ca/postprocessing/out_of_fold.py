"""The predictions of a cross-validation, each by a network that did not see the case."""

from __future__ import annotations

from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.folds import fold_folders, read_splits
from nnunetv2_s2ca.evaluation.cohort import CasePair
from nnunetv2_s2ca.evaluation.segmentations import find_segmentations


def out_of_fold_pairs(
    model: Path, *, reference: Path, splits: Path
) -> tuple[list[CasePair], list[int]]:
    """The validation predictions of all folds of a model folder, with their truth.

    Args:
        model: nnU-Net's folder of a trained model, with `fold_0/validation` and so on.
        reference: Folder with the truth, in nnU-Net's labels.
        splits: The `splits_final.json` that the folds were trained by.

    Returns:
        The pairs, and the numbers of the split's folds that have no predictions.

    Raises:
        UserError: There is no fold; a fold's predictions are not exactly the cases that the split
            held out of its training; a case stands in two folds; or its truth is missing. All
            folds and cases at fault are named.
    """
    folds = {
        number: folder
        for number, folder in fold_folders(model).items()
        if (folder / "validation").is_dir()
    }
    if not folds:
        raise UserError(
            f"{model} has no fold_N/validation; train the folds first (s2ca crossval). fold_all "
            "holds nothing out, so nothing can be fitted on it"
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
        raise UserError("\n  ".join(["the folds do not fit together:", *problems]))
    missing = [number for number in range(len(split)) if number not in folds]
    return [pairs[case] for case in sorted(pairs)], missing


def _problems_of_fold(
    number: int, fold: dict[str, list[str]], predictions: dict[str, Path], *, splits: Path
) -> list[str]:
    """What keeps a fold's predictions from being those of the cases that it held out."""
    trained, held_out = set(fold["train"]), set(fold["val"])
    problems = []
    if trained & held_out:
        problems.append(f"{splits}: fold {number} trains on cases that it validates on")
    problems += [
        f"{predictions[case]} is of a case that fold {number} was trained on, says {splits}; only "
        "out-of-fold predictions may be fitted on"
        for case in sorted(predictions.keys() & (trained - held_out))
    ]
    problems += [
        f"{predictions[case]} is of a case that {splits} does not name in fold {number}"
        for case in sorted(predictions.keys() - trained - held_out)
    ]
    problems += [
        f"{case}: fold {number} has no prediction of it; run its validation again (s2ca crossval)"
        for case in sorted(held_out - predictions.keys())
    ]
    return problems
