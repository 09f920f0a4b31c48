"""nnU-Net's validation scores of each fold."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_s2ca.brats.regions import Region, scheme_of_dataset
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json
from nnunetv2_s2ca.core.folds import fold_folders
from nnunetv2_s2ca.core.nnunet import PREPROCESSED, nnunet_folder
from nnunetv2_s2ca.jobs.folds import Model


def region_names(model: Model) -> list[str]:
    """The regions, or labels, of a model's dataset.

    Raises:
        UserError: `dataset.json` is missing or damaged.
    """
    return [region.name for region in _regions(model)]


def validation_dice(model: Model) -> dict[int, list[float]]:
    """Mean Dice of each region in each validated fold, from nnU-Net's `summary.json`.

    Returns:
        Fold → the values in the order of `region_names`, followed by their mean.

    Raises:
        UserError: `dataset.json` or `summary.json` is missing or damaged.
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
        # nnU-Net's keys are a tuple's text for a region, a number's for a single label
        means = {
            tuple(int(label) for label in re.findall(r"\d+", key)): float(value["Dice"])
            for key, value in content["mean"].items()
        }
        mean = float(content["foreground_mean"]["Dice"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not nnU-Net's summary.json: {error!r}; remove it and run the command "
            "again, which repeats the fold's validation"
        ) from error
    return [*(means.get(region.labels, math.nan) for region in regions), mean]


def _regions(model: Model) -> tuple[Region, ...]:
    path = nnunet_folder(PREPROCESSED) / model.dataset / "dataset.json"
    return scheme_of_dataset(path).regions
