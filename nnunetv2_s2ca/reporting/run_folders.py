"""Where a run's truth, images and model lie, by nnU-Net's folders and records."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json
from nnunetv2_s2ca.core.folds import fold_folders
from nnunetv2_s2ca.core.nifti import FILE_ENDINGS
from nnunetv2_s2ca.core.nnunet import PREPROCESSED, RAW

ARGUMENTS = "predict_from_raw_data_args.json"  # nnU-Net's record of a prediction


def raw_folder_of(dataset: str, variable: str, near: Path) -> Path | None:
    """A dataset's folder in `nnUNet_raw` or `nnUNet_preprocessed`.

    Args:
        dataset: such as `Dataset043_BraTS2019`.
        variable: the environment variable; if it is not set or leads nowhere, a folder of this
            name beside the results is tried.
        near: folder of the dataset's results.
    """
    bases = [os.environ.get(variable), near.parent.with_name(variable)]
    return next(
        (Path(base) / dataset for base in bases if base and (Path(base) / dataset).is_dir()), None
    )


def inputs_of(model: Path | None, predictions: Sequence[Path]) -> Path | None:
    """The folder of images that a prediction was made from, by nnU-Net's record."""
    for folder in predictions:
        try:
            named = read_json(folder / ARGUMENTS).get("list_of_lists_or_source_folder")
        except UserError:
            continue
        found = existing([named if isinstance(named, str) else None])
        if found:
            return found[0]
    if model is not None:
        raw = raw_folder_of(model.parent.name, RAW, model.parent)
        return raw / "imagesTr" if raw and (raw / "imagesTr").is_dir() else None
    return None


def existing(places: Sequence[Any]) -> list[Path]:
    """The first of the places that is a folder with images, in a list; empty if none is."""
    for place in places:
        if (
            place
            and Path(place).is_dir()
            and (has_images(Path(place)) or _has_images_below(Path(place)))
        ):
            return [Path(place)]
    return []


def has_images(folder: Path) -> bool:
    """Whether NIfTI files lie in a folder itself."""
    return any(
        path.name.endswith(FILE_ENDINGS) and not path.name.startswith(".")
        for path in folder.glob("*.nii*")
    )


def _has_images_below(folder: Path) -> bool:
    return any(True for _ in folder.glob("*/*.nii*")) or any(
        True for _ in folder.glob("*/*/*.nii*")
    )


def model_around(folder: Path) -> Path | None:
    """The trained model in whose folder predictions lie, as nnU-Net's `crossval_results` do."""
    places = list(folder.resolve().parents)[:3]
    return next((place for place in places if "__" in place.name and fold_folders(place)), None)


def truth_of(
    summary: Mapping[str, Any], model: Path | None, predictions: Sequence[Path]
) -> Path | None:
    """The folder of the true segmentations."""
    named = existing([summary.get("reference")])
    if named:
        return named[0]
    if model is not None:
        dataset = model.parent.name
        raw = raw_folder_of(dataset, RAW, model.parent)
        preprocessed = raw_folder_of(dataset, PREPROCESSED, model.parent)
        places = [raw and raw / "labelsTr", preprocessed and preprocessed / "gt_segmentations"]
        found = existing(places)
        if found:
            return found[0]
    inputs = inputs_of(model, predictions)
    if inputs is not None and inputs.name.startswith("images"):
        labels = inputs.with_name(inputs.name.replace("images", "labels"))
        return labels if labels.is_dir() else None
    return None
