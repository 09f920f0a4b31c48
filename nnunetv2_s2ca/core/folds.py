"""The folds of a cross-validation, as nnU-Net keeps them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError


def fold_folders(model: Path) -> dict[int, Path]:
    """The folders `fold_0`, `fold_1` … of a trained model, by number.

    `fold_all`, which holds nothing out, and copies such as `fold_0_old` are none.
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
        UserError: It is missing or damaged, or has no fold.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        splits = [{"train": list(fold["train"]), "val": list(fold["val"])} for fold in content]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; name nnU-Net's splits_final.json") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not nnU-Net's splits_final.json: {error!r}") from error
    if not splits:
        raise UserError(f"{path} has no folds; expected nnU-Net's splits_final.json")
    return splits
