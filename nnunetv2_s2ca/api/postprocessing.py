"""Remove small components from predictions, with the paper's sizes or fitted ones."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from nnunetv2_s2ca.brats.regions import find_dataset_json, scheme_of_dataset
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_output_folder
from nnunetv2_s2ca.core.lock import output_lock
from nnunetv2_s2ca.postprocessing.fitting import Fitted, fit_rules
from nnunetv2_s2ca.postprocessing.folders import postprocess_folder
from nnunetv2_s2ca.postprocessing.out_of_fold import out_of_fold_pairs, preprocessed_folder
from nnunetv2_s2ca.postprocessing.rules import DEFAULT_FILE, papers_rules, read_rules
from nnunetv2_s2ca.reporting.tables import fit_table


@dataclass(frozen=True)
class Postprocessed:
    """A folder of post-processed predictions.

    Attributes:
        output: The folder.
        cases: Number of files written.
        changed: Number of files that differ from the input.
    """

    output: Path
    cases: int
    changed: int

    def __str__(self) -> str:
        return f"{self.cases} cases written to {self.output}, {self.changed} of them changed"


@dataclass(frozen=True)
class FittedPostprocessing:
    """Sizes chosen by cross-validation.

    Attributes:
        path: JSON file with the sizes, for `postprocess`.
        fitted: Sizes, and scores before and after.
        missing_folds: Folds without predictions, whose cases were not used.
    """

    path: Path
    fitted: Fitted
    missing_folds: list[int]

    def __str__(self) -> str:
        use = f"use it with: s2ca postprocess -i IN -o OUT --apply {self.path}"
        return f"{fit_table(self.fitted)}\n\nwrote {self.path}; {use}"


def postprocess(
    predictions: str | PathLike[str],
    output: str | PathLike[str],
    *,
    rules: str | PathLike[str] | None = None,
    fill_holes: bool = False,
    dataset_json: str | PathLike[str] | None = None,
    overwrite: bool = False,
    processes: int | None = None,
) -> Postprocessed:
    """Remove small components, and enhancing tumour if there is too little of it.

    Args:
        predictions: Folder of nnU-Net's predictions.
        output: Another folder.
        rules: JSON file of `fit_postprocessing`; the paper's 10 and 400 voxels if None.
        fill_holes: Also fill holes of WT and TC; with `rules`, their file decides.
        dataset_json: nnU-Net's file that defines the regions; if None, that in `predictions`.
        overwrite: Replace files of the same names in `output`.
        processes: Worker processes; all cores if None.

    Raises:
        UserError: Files are damaged or exist already; all are named and nothing is written.
    """
    if rules is not None and fill_holes:
        raise UserError(f"{rules} decides whether holes are filled; leave out `fill_holes`")
    predictions, output = Path(predictions), Path(output)
    scheme = scheme_of_dataset(Path(dataset_json or find_dataset_json(predictions)))
    changed = postprocess_folder(
        predictions,
        output,
        rules=papers_rules(scheme.regions, fill_holes=fill_holes)
        if rules is None
        else read_rules(Path(rules)),
        scheme=scheme,
        processes=processes,
        overwrite=overwrite,
    )
    return Postprocessed(output, len(changed), sum(changed))


def fit_postprocessing(
    model: str | PathLike[str],
    *,
    reference: str | PathLike[str] | None = None,
    splits: str | PathLike[str] | None = None,
    output: str | PathLike[str] | None = None,
    fill_holes: bool = False,
    dataset_json: str | PathLike[str] | None = None,
    overwrite: bool = False,
    processes: int | None = None,
) -> FittedPostprocessing:
    """Choose the sizes on a trained model's out-of-fold predictions.

    Args:
        model: nnU-Net's folder of the trained model.
        reference: Folder with the true segmentations; `gt_segmentations` of the dataset in
            nnUNet_preprocessed if None.
        splits: `splits_final.json`; that of the dataset in nnUNet_preprocessed if None.
        output: JSON file to write; `s2ca_postprocessing.json` in the model's folder if None.
        fill_holes: Also try to fill holes of WT and TC.
        dataset_json: nnU-Net's file that defines the regions; if None, that of the model.
        overwrite: Replace an existing file.
        processes: Worker processes; all cores if None.

    Raises:
        UserError: A fold predicted a case that it was trained on, files are missing or damaged, or
            the output exists.
    """
    model = Path(model)
    if not model.is_dir():
        raise UserError(f"{model} is not a folder; expected nnU-Net's folder of a trained model")
    target = Path(output) if output else model / DEFAULT_FILE
    if target.is_dir():
        raise UserError(f"{target} is a folder; name a file for the rules (`output`)")
    if target.exists() and not overwrite:
        raise UserError(
            f"{target} exists; pass `overwrite=True` to replace it, or name another file"
        )
    check_output_folder(target.parent)
    scheme = scheme_of_dataset(Path(dataset_json or find_dataset_json(model)))
    if reference is None or splits is None:
        folder = preprocessed_folder(model)
        reference = reference or folder / "gt_segmentations"
        splits = splits or folder / "splits_final.json"
    with output_lock(target):
        pairs, missing = out_of_fold_pairs(model, reference=Path(reference), splits=Path(splits))
        fitted = fit_rules(pairs, scheme=scheme, fill_holes=fill_holes, processes=processes)
        fitted.rules.write(
            target,
            fitted_on={
                "model": str(model),
                "splits": str(splits),
                "cases": len(pairs),
                "missing_folds": missing,
            },
            scores={"before": fitted.before.as_json(), "after": fitted.after.as_json()},
        )
    return FittedPostprocessing(target, fitted, missing)
