"""The folds of a cross-validation, as nnU-Net keeps them."""

from __future__ import annotations

import re
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json


def fold_folders(model: Path) -> dict[int, Path]:
    """The folders `fold_0`, `fold_1` … of a trained model, by number.

    `fold_all`, which holds no case out, and copies such as `fold_0_old` do not count.
    """
    found = {
        int(match[1]): path
        for path in model.glob("fold_*")
        if path.is_dir() and (match := re.fullmatch(r"fold_(\d+)", path.name))
    }
    return dict(sorted(found.items()))


def read_splits(path: Path) -> list[dict[str, list[str]]]:
    """The cases that each fold trains on (`train`) and validates on (`val`).

    Args:
        path: nnU-Net's `splits_final.json`.

    Raises:
        UserError: The file is missing or damaged, or has no folds.
    """
    splits = read_json(path, list)
    if not splits:
        raise UserError(f"{path} has no folds; expected nnU-Net's splits_final.json")
    for number, fold in enumerate(splits):
        parts = [fold.get(name) if isinstance(fold, dict) else None for name in ("train", "val")]
        for part in parts:
            if not isinstance(part, list) or not all(isinstance(case, str) for case in part):
                raise UserError(
                    f"{path} is not nnU-Net's splits_final.json: fold {number} lacks the lists "
                    "`train` and `val` of case identifiers"
                )
            if len(part) > len(set(part)):
                twice = next(case for case in part if part.count(case) > 1)
                raise UserError(f"{path}: fold {number} lists {twice} twice; list it once")
    return [{"train": fold["train"], "val": fold["val"]} for fold in splits]
