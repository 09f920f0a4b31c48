"""Pack a trained model into one file, install it elsewhere, and read what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nnunetv2_s2ca.checkpoints.importing import prediction_command
from nnunetv2_s2ca.core.errors import UserError, disk_errors_named
from nnunetv2_s2ca.core.text import in_few_words, printable
from nnunetv2_s2ca.models.archive import unpack_for_prediction
from nnunetv2_s2ca.models.card import card_text, make_card
from nnunetv2_s2ca.models.checkpoint import read_checkpoint
from nnunetv2_s2ca.models.folder import CHECKPOINT, read_model_folder
from nnunetv2_s2ca.models.install import install
from nnunetv2_s2ca.models.pack import pack


@dataclass(frozen=True)
class PackedModel:
    """A model in one file.

    Attributes:
        path: The zip file.
        card: The model card.
    """

    path: Path
    card: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        folds = " ".join(self.card["folds"])
        return f"wrote {self.path}: {self.path.stat().st_size / 1e6:.1f} MB, folds {folds}"


@dataclass(frozen=True)
class InstalledModel:
    """A model that was installed.

    Attributes:
        folder: Its folder.
    """

    folder: Path

    def __str__(self) -> str:
        return f"installed {self.folder}\npredict with: {prediction_command(self.folder)}"


@dataclass(frozen=True)
class ModelCard:
    """What a model is.

    Attributes:
        content: The card's entries.
    """

    content: dict[str, Any]

    def __str__(self) -> str:
        return printable(card_text(self.content)).rstrip()


@disk_errors_named()
def pack_model(
    model: str | PathLike[str],
    output: str | PathLike[str],
    *,
    folds: Sequence[int | str] | None = None,
    checkpoint: str = CHECKPOINT,
    postprocessing: str | PathLike[str] | None = None,
    edition: str | None = None,
    licence: str | None = None,
    overwrite: bool = False,
) -> PackedModel:
    """Write what prediction needs of a trained model to one zip file, with a model card.

    The file holds the folds' weights without the optimiser, `plans.json`, `dataset.json`, the
    post-processing and the card with a SHA-256 of each part, and ends with a SHA-256 of itself.
    It is laid out as nnU-Net's own export.

    Args:
        model: Folder of a trained model.
        output: The zip file to write.
        folds: The folds to pack; all if None.
        checkpoint: Name of the checkpoints to pack.
        postprocessing: File of `fit_postprocessing`; the one in the model's folder if None.
        edition: The edition of BraTS that the model was trained on; from the dataset if None.
        licence: Of the weights; from `dataset.json` if None.
        overwrite: Replace an existing file.

    Raises:
        UserError: There is no model, a checkpoint is damaged, or the output exists.
    """
    named = None if folds is None else tuple(map(str, folds))
    found = read_model_folder(Path(model), folds=named, checkpoint=checkpoint)
    card = pack(
        found,
        Path(output),
        postprocessing=None if postprocessing is None else Path(postprocessing),
        edition=edition,
        licence=licence,
        overwrite=overwrite,
    )
    return PackedModel(Path(output), card)


@disk_errors_named()
def install_model(
    file: str | PathLike[str],
    *,
    output: str | PathLike[str] | None = None,
    overwrite: bool = False,
) -> InstalledModel:
    """Verify a file of `pack_model`, and write its model where nnU-Net finds it.

    Nothing of the file can run: its checkpoints are read as weights only.

    Args:
        file: The zip file.
        output: The model's folder; its place in `nnUNet_results` if None.
        overwrite: Replace a model that was installed before, if it is unchanged.

    Raises:
        UserError: The file was changed or holds what it should not, or the folder exists; nothing
            is written.
    """
    folder = install(
        Path(file), output=None if output is None else Path(output), overwrite=overwrite
    )
    return InstalledModel(folder)


@disk_errors_named()
def describe_model(model: str | PathLike[str]) -> ModelCard:
    """The card of a packed or installed model, or what a trained model says of itself.

    Args:
        model: A folder, or a zip file of `pack_model` or `nnUNetv2_export_model_to_zip`.

    Raises:
        UserError: There is no model, or the file is damaged.
    """
    path = Path(model)
    if path.is_dir() or not path.exists():
        return ModelCard(_card(path))
    with TemporaryDirectory(prefix="s2ca_model_") as place:
        folder = unpack_for_prediction(path, Path(place), folds=None, checkpoint=CHECKPOINT)
        return ModelCard(_card(folder))


def _card(folder: Path) -> dict[str, Any]:
    found = read_model_folder(folder)
    if found.card:
        if not isinstance(found.card.get("parts"), dict):
            raise UserError(
                f"{folder} has a card without parts: {in_few_words(found.card)}; pack it again"
            )
        return found.card
    content = read_checkpoint(found.checkpoint_of(found.folds[0]))
    return make_card(
        found,
        trainer=content["trainer_name"],
        configuration=content["init_args"]["configuration"],
    )
