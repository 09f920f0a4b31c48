"""A trained model as one file: weights of its folds, plans, labels, post-processing, card."""

from __future__ import annotations

import json
import re
import zipfile
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from nnunetv2_s2ca.brats.editions import edition_named
from nnunetv2_s2ca.brats.regions import scheme_of_dataset
from nnunetv2_s2ca.checkpoints.manifest import checksum
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json, whole_file
from nnunetv2_s2ca.core.folders import check_apart
from nnunetv2_s2ca.core.signals import signals_held
from nnunetv2_s2ca.models.archive import seal
from nnunetv2_s2ca.models.card import README, card_text, make_card
from nnunetv2_s2ca.models.checkpoint import for_prediction, read_checkpoint
from nnunetv2_s2ca.models.folder import CARD, CHECKPOINT, ModelFolder
from nnunetv2_s2ca.postprocessing.rules import DEFAULT_FILE, check_rules, read_rules

DATE = (1980, 1, 1, 0, 0, 0)  # the earliest of a zip file: equal models make equal files
DATASET = re.compile(r"Dataset\d{3}_[A-Za-z0-9_-]+")
NAME = re.compile(r"[A-Za-z0-9_-]+")


def pack(
    model: ModelFolder,
    output: Path,
    *,
    postprocessing: Path | None = None,
    edition: str | None = None,
    licence: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a model as one file; returns its card.

    Args:
        model: The model, with the folds and checkpoints to pack.
        output: The zip file to write.
        postprocessing: File of `s2ca postprocess --fit`; that of the model's folder if None.
        edition: The edition of BraTS that it was trained on, for the card.
        licence: Of the weights, for the card.
        overwrite: Replace an existing file.

    Raises:
        UserError: A checkpoint is damaged or of another network than the others, the rules do not
            fit the labels, or the output exists or cannot be written.
    """
    _check_output(model, output, overwrite=overwrite)
    if edition is not None:
        edition_named(edition)
    with TemporaryDirectory(prefix="s2ca_pack_") as place:
        folder = Path(place)
        trainer, configuration = _write_folds(model, folder)
        (folder / "plans.json").write_bytes((model.path / "plans.json").read_bytes())
        # file names of the training data are nobody's business
        described = {key: value for key, value in model.dataset_json.items() if key != "dataset"}
        _write_json(folder / "dataset.json", described)
        _write_rules(model, postprocessing, folder)
        card = make_card(
            model,
            trainer=trainer,
            configuration=configuration,
            edition=edition,
            licence=licence,
        )
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        card["parts"] = {path.relative_to(folder).as_posix(): checksum(path) for path in files}
        _write_json(folder / CARD, card)
        (folder / README).write_text(card_text(card), encoding="utf-8")
        top = _top(card)
        with whole_file(output) as temporary:
            _zip(folder, temporary, top)
            seal(temporary)
    return card


def _check_output(model: ModelFolder, output: Path, *, overwrite: bool) -> None:
    if output.suffix.lower() != ".zip":
        raise UserError(f"{output}: expected a name that ends in .zip (`output`)")
    if output.is_dir():
        raise UserError(f"{output} is a folder; expected the name of a file")
    if output.exists() and not overwrite:
        raise UserError(f"{output} exists; pass `overwrite=True` to replace it, or name another")
    check_apart(output, *(model.checkpoint_of(fold) for fold in model.folds))


def _write_folds(model: ModelFolder, folder: Path) -> tuple[str, str]:
    """Write the checkpoints; returns the trainer and the configuration that they name."""
    first: dict[str, Any] = {}
    for fold in model.folds:
        path = model.checkpoint_of(fold)
        content = for_prediction(read_checkpoint(path))
        first = first or content
        for key in ("trainer_name", "init_args"):
            if content[key] != first[key]:
                raise UserError(
                    f"{path} is of another training than fold {model.folds[0]}: {content[key]} "
                    f"instead of {first[key]}; pack the folds of one training"
                )
        if _shapes(content) != _shapes(first):
            raise UserError(f"{path} is of another network than fold {model.folds[0]}")
        target = folder / f"fold_{fold}"
        target.mkdir()
        torch.save(content, target / CHECKPOINT)
    return first["trainer_name"], first["init_args"]["configuration"]


def _shapes(content: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in content["network_weights"].items()}


def _write_rules(model: ModelFolder, postprocessing: Path | None, folder: Path) -> None:
    source = postprocessing or model.path / DEFAULT_FILE
    if postprocessing is None and not source.is_file():
        return
    check_rules(read_rules(source), scheme_of_dataset(model.path / "dataset.json").regions)
    content = read_json(source)
    fitted = content.get("fitted_on")
    if isinstance(fitted, dict):  # its paths mean nothing elsewhere
        kept = ("cases", "missing_folds")
        content["fitted_on"] = {key: fitted[key] for key in kept if key in fitted}
    _write_json(folder / DEFAULT_FILE, content)


def _top(card: dict[str, Any]) -> str:
    """The model's place below nnUNet_results, as nnU-Net's own zip files have it."""
    names = (card["trainer"], card["plans"], card["configuration"])
    if not DATASET.fullmatch(str(card["dataset"])) or not all(
        NAME.fullmatch(str(name)) for name in names
    ):
        raise UserError(
            f"{card['dataset']}, {', '.join(map(str, names))}: expected a dataset DatasetXXX_Name, "
            "and trainer, plans and configuration of letters, digits, _ and -"
        )
    return f"{card['dataset']}/{'__'.join(names)}"


def _zip(folder: Path, target: Path, top: str) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(f"{top}/{path.relative_to(folder).as_posix()}", DATE)
            entry.external_attr = 0o644 << 16
            # weights hardly compress
            stored = path.suffix == ".pth"
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, ExitStack() as opened:
                with signals_held():  # an entry that is half open could not be closed
                    file = opened.enter_context(archive.open(entry, "w"))
                while piece := source.read(2**20):
                    file.write(piece)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
