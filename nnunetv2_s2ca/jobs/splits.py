"""Writing the folds of a cross-validation before its trainings start."""

from __future__ import annotations

import json
import os
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json, write_text
from nnunetv2_s2ca.core.folds import read_splits
from nnunetv2_s2ca.core.nnunet import PREPROCESSED, RAW, nnunet_folder
from nnunetv2_s2ca.jobs.folds import Model


def ensure_splits(model: Model) -> int:
    """Write a split if the dataset has none; returns its number of folds.

    Otherwise folds that start together would all write `splits_final.json`, and one might read it
    half-written.

    Raises:
        UserError: The dataset is not planned and preprocessed, or its split is damaged.
    """
    folder = nnunet_folder(PREPROCESSED) / model.dataset
    splits = folder / "splits_final.json"
    if not splits.exists():
        from nnunetv2.utilities.crossval_split import generate_crossval_split

        from nnunetv2_s2ca.dataset_conversion.record import RECORD
        from nnunetv2_s2ca.dataset_conversion.splits import write_splits

        plans = folder / f"{model.plans}.json"
        cases = sorted(path.name for path in (folder / "gt_segmentations").glob("*"))
        if not plans.is_file() or not cases:
            raise UserError(
                f"{model.dataset} is not preprocessed for {model.plans}; run "
                "nnUNetv2_plan_and_preprocess first"
            )
        raw = os.environ.get(RAW, "")
        if (Path(raw) / model.dataset / RECORD).is_file():
            # patient-disjoint, which nnU-Net's own folds are not
            write_splits(int(model.dataset[7:10]))
            return len(read_splits(splits))
        ending = read_json(folder / "dataset.json").get("file_ending")
        if not ending:
            raise UserError(f"{folder / 'dataset.json'} has no file_ending; plan the dataset again")
        names = [name.removesuffix(ending) for name in cases]
        if len(names) < 5:
            raise UserError(
                f"{model.dataset} has {len(names)} cases, too few for five folds; write "
                f"{splits} yourself"
            )
        split = [
            {part: [str(case) for case in cases] for part, cases in fold.items()}
            for fold in generate_crossval_split(names)
        ]
        write_text(splits, json.dumps(split, indent=4))
    return len(read_splits(splits))
