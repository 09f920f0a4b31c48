"""A trained model's folder: where it is, its folds, and what it was trained on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from nibabel.orientations import aff2axcodes

from nnunetv2_s2ca.brats.sequences import SEQUENCES, sequence_named
from nnunetv2_s2ca.checkpoints.model_folder import IMPORTER
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json
from nnunetv2_s2ca.core.nifti import READ_ERRORS, open_nifti
from nnunetv2_s2ca.core.nnunet import PREPROCESSED, RAW, nnunet_folder
from nnunetv2_s2ca.core.text import in_few_words

CHECKPOINT = "checkpoint_final.pth"
CARD = "s2ca_model.json"
BRATS_ORIENTATION = "LPS"
ASSUMED = "BraTS' convention, since the model does not tell"
HEADERS = 20  # of training cases that are read for their orientation


@dataclass(frozen=True)
class ModelFolder:
    """nnU-Net's folder of a trained model.

    Attributes:
        path: The folder, which holds `plans.json`, `dataset.json` and the folds.
        plans: Content of `plans.json`.
        dataset_json: Content of `dataset.json`.
        folds: The folds to use, such as `("0", "1")` or `("all",)`.
        checkpoint: Name of the file in each fold's folder.
        card: Content of the model card; empty if the model was not packed.
    """

    path: Path
    plans: dict[str, Any]
    dataset_json: dict[str, Any]
    folds: tuple[str, ...]
    checkpoint: str
    card: dict[str, Any]

    def checkpoint_of(self, fold: str) -> Path:
        """The fold's file."""
        return self.path / f"fold_{fold}" / self.checkpoint


def read_model_folder(
    path: Path, *, folds: tuple[str, ...] | None = None, checkpoint: str = CHECKPOINT
) -> ModelFolder:
    """Find a model in a folder and read what it says of itself.

    Args:
        path: The model's folder, or one that holds one model.
        folds: Such as `("0", "1")`; all that are there if None.
        checkpoint: Name of the checkpoints.

    Raises:
        UserError: There is no model or several, or a fold is missing.
    """
    folder = _find(path)
    plans, dataset_json = (read_json(folder / name) for name in ("plans.json", "dataset.json"))
    for name, content, keys in (
        ("plans.json", plans, ("configurations", "dataset_name", "plans_name")),
        ("dataset.json", dataset_json, ("labels", "file_ending")),
    ):
        if missing := [key for key in keys if key not in content]:
            raise UserError(f"{folder / name} lacks {', '.join(missing)}; expected nnU-Net's file")
    there = _folds_with(folder, checkpoint)
    if not there:
        raise UserError(f"{folder} has no fold with {checkpoint}; train one, or name another file")
    if folds is None:
        numbered = tuple(fold for fold in there if fold != "all")
        folds = numbered or there
    if missing := [fold for fold in folds if fold not in there]:
        raise UserError(
            f"{folder} has no {checkpoint} of fold {', '.join(missing)}; there are "
            f"{', '.join(there)} (`folds`)"
        )
    if len(set(folds)) < len(folds):
        raise UserError(f"`folds` names one fold twice: {' '.join(folds)}; name each once")
    card = read_json(folder / CARD) if (folder / CARD).is_file() else {}
    return ModelFolder(folder, plans, dataset_json, tuple(folds), checkpoint, card)


def sequences_of(model: ModelFolder) -> tuple[str, ...]:
    """The sequences that the model takes, in the order of its channels.

    Raises:
        UserError: A channel is none of BraTS' sequences, or two are the same.
    """
    place = model.path / "dataset.json"
    names = model.dataset_json.get("channel_names", model.dataset_json.get("modality"))
    if not isinstance(names, dict) or not names:
        raise UserError(f"{place} names no channels; expected nnU-Net's `channel_names`")
    channels = []
    for key in sorted(names, key=lambda key: int(key) if str(key).isdecimal() else -1):
        sequence = sequence_named(str(names[key]))
        if sequence is None:
            raise UserError(
                f"{place}: channel {key} is {in_few_words(names[key])}; expected one of "
                f"{', '.join(SEQUENCES)}. Predict with nnUNetv2_predict, which takes any channels"
            )
        if sequence in channels:
            raise UserError(f"{place} has two channels of {sequence}; expected one")
        channels.append(sequence)
    return tuple(channels)


def training_orientation(model: ModelFolder) -> tuple[str, str]:
    """The orientation of the images that the model was trained on, and how it is known.

    nnU-Net's readers keep images as they are stored, and its plans say nothing of orientation. The
    model card does; without one, so do the predictions of the validation and the dataset's images.
    """
    from_card = model.card.get("orientation")
    if isinstance(from_card, str):
        return from_card, "the model card"
    if "Reorient" in str(model.plans.get("image_reader_writer")):
        return "RAS", "nnU-Net's reader"
    if model.dataset_json.get("converted_by") == IMPORTER:
        return BRATS_ORIENTATION, "the authors' program"
    for folder, pattern, source in _where_images_lie(model):
        found: Counter[str] = Counter()
        for image in islice(folder.glob(pattern), HEADERS):
            if (code := _orientation(image)) is not None:
                found[code] += 1
        if found:
            ((code, _),) = found.most_common(1)
            return code, source
    return BRATS_ORIENTATION, ASSUMED


def _where_images_lie(model: ModelFolder) -> Iterator[tuple[Path, str, str]]:
    """Folders with images of the training's orientation, a pattern of names, and how to say it."""
    for fold in sorted(model.path.glob("fold_*")):
        yield fold / "validation", "*.nii*", "the model's validation"
    name = str(model.plans["dataset_name"])
    for variable, below, pattern in (
        (PREPROCESSED, "gt_segmentations", "*.nii*"),
        (RAW, "imagesTr", "*_0000.nii*"),
    ):
        try:
            yield nnunet_folder(variable) / name / below, pattern, f"the dataset in {variable}"
        except UserError:  # the variable is not set, as on a machine that only predicts
            continue


def _orientation(path: Path) -> str | None:
    try:
        with open_nifti(path) as nifti:
            return "".join(aff2axcodes(nifti.affine))
    except READ_ERRORS:
        return None


def _find(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path} does not exist; expected a trained model's folder or zip file")
    if not path.is_dir():
        raise UserError(f"{path} is neither a folder nor a zip file; expected a trained model")
    if (path / "plans.json").is_file() and (path / "dataset.json").is_file():
        return path
    below = chain(path.glob("*/plans.json"), path.glob("*/*/plans.json"))
    models = sorted({file.parent for file in below if (file.parent / "dataset.json").is_file()})
    if len(models) == 1:
        return models[0]
    if models:
        listed = "\n  ".join(map(str, models))
        raise UserError(f"{path} holds several models; name one of them:\n  {listed}")
    raise UserError(
        f"{path} holds no trained model; expected nnU-Net's folder TRAINER__PLANS__CONFIGURATION, "
        "with plans.json, dataset.json and fold_0 … in it"
    )


def _folds_with(folder: Path, checkpoint: str) -> tuple[str, ...]:
    found = [
        match[1]
        for path in folder.glob("fold_*")
        if (match := re.fullmatch(r"fold_(\d+|all)", path.name)) and (path / checkpoint).is_file()
    ]
    return tuple(sorted(found, key=lambda fold: (fold == "all", fold.zfill(9))))
