"""The scores that nnU-Net gave the validation of each fold."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_s2ca.brats.regions import Region, scheme_of_dataset
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json
from nnunetv2_s2ca.core.folds import fold_folders
from nnunetv2_s2ca.jobs.folds import Model, nnunet_folder


def region_names(model: Model) -> list[str]:
    """The regions, or labels, of a model's dataset.

    Raises:
        UserError: A missing or damaged `dataset.json`.
    """
    return [region.name for region in _regions(model)]


def validation_dice(model: Model) -> dict[int, list[float]]:
    """Mean Dice of each region in each validated fold, as nnU-Net's `summary.json` has it.

    Returns:
        For each fold the values in the order of `region_names`, the mean over regions last.

    Raises:
        UserError: A missing or damaged `dataset.json` or `summary.json`.
    """
    dices = {}
    for fold, folder in fold_folders(model.folder).items():
        summary = folder / "validation/summary.json"
        if summary.is_file():
            dices[fold] = _dice_of_summary(summary, _regions(model))
    return dices


def _dice_of_summary(path: Path, regions: Sequence[Region]) -> list[float]:
    content = read_json(path)
    try:
        # nnU-Net writes a region as the text of a tuple, a single label as that of a number
        means = {
            tuple(int(label) for label in re.findall(r"\d+", key)): float(value["Dice"])
            for key, value in content["mean"].items()
        }
        mean = float(content["foreground_mean"]["Dice"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not nnU-Net's summary.json: {error!r}; remove it and give the command "
            "again, which validates the fold again"
        ) from error
    return [*(means.get(region.labels, math.nan) for region in regions), mean]


def _regions(model: Model) -> tuple[Region, ...]:
    path = nnunet_folder("nnUNet_preprocessed") / model.dataset / "dataset.json"
    return scheme_of_dataset(path).regions
