"""Installing a packed model where nnU-Net finds it, after verifying it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from nnunetv2_s2ca.checkpoints.manifest import checksum
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_output_folder, read_json
from nnunetv2_s2ca.core.folders import check_apart, replaced_folder
from nnunetv2_s2ca.core.nnunet import RESULTS, nnunet_folder
from nnunetv2_s2ca.core.text import excerpt
from nnunetv2_s2ca.models.archive import extract, is_packed, model_in, opened
from nnunetv2_s2ca.models.card import FORMAT, README
from nnunetv2_s2ca.models.checkpoint import read_checkpoint
from nnunetv2_s2ca.models.folder import CARD, CHECKPOINT

LARGEST_CARD = 2**24  # bytes


def install(path: Path, *, output: Path | None = None, overwrite: bool = False) -> Path:
    """Verify a packed model, and write its folder.

    Args:
        path: A file of `s2ca model pack`.
        output: The model's folder; its place in nnUNet_results if None.
        overwrite: Replace an installed model.

    Returns:
        The model's folder.

    Raises:
        UserError: The file was changed, holds anything but what its card lists, or has a checkpoint
            of more than weights; or the folder exists and is no installed model, or was changed.
            Nothing is written.
    """
    with opened(path) as archive:
        top = model_in(path, archive)
        if not is_packed(archive):
            raise UserError(
                f"{path} was not made by `s2ca model pack`; install it with "
                "nnUNetv2_install_pretrained_model_from_zip, or segment with it as it is"
            )
        card = _verified_card(path, archive, top)
        target = output if output is not None else nnunet_folder(RESULTS) / top
        check_output_folder(target.parent)
        check_apart(target, path)
        if target.is_dir() and any(target.iterdir()):
            if not overwrite:
                raise UserError(
                    f"{target} exists; pass `overwrite=True` to replace it, or name another folder "
                    "(`output`)"
                )
            check_unchanged(target)
        try:
            with replaced_folder(target, overwrite=overwrite) as folder:
                for name in (*card["parts"], CARD, README):
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    extract(archive, str(top / name), folder / name)
                for checkpoint in folder.glob(f"fold_*/{CHECKPOINT}"):
                    read_checkpoint(checkpoint)
        except OSError as error:
            raise UserError(f"{target} cannot be written: {error.strerror or error}") from error
    return target


def read_card(path: Path, archive: zipfile.ZipFile, top: PurePosixPath) -> dict[str, Any]:
    """The card in a packed file.

    Raises:
        UserError: It is no card.
    """
    entry = archive.getinfo(str(top / CARD))
    if entry.file_size > LARGEST_CARD:
        raise UserError(f"{path}: its card has {entry.file_size:,} bytes; expected a small one")
    try:
        card = json.loads(archive.read(entry))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its card is no JSON: {error}") from error
    parts = card.get("parts") if isinstance(card, dict) else None
    if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
        raise UserError(f"{path}: its card lists no parts; pack the model again")
    if card.get("format") != FORMAT:
        raise UserError(
            f"{path}: its card has the format {card.get('format')!r}; this version reads {FORMAT}. "
            "Update nnunetv2-s2ca"
        )
    return card


def check_unchanged(folder: Path) -> None:
    """Refuse to replace a folder that holds anything but an installed model.

    Raises:
        UserError: It has no card, or something in it is not as the card says.
    """
    parts = read_json(folder / CARD).get("parts") if (folder / CARD).is_file() else None
    if not isinstance(parts, dict):
        raise UserError(
            f"{folder} holds something other than an installed model, which `overwrite=True` does "
            "not replace; choose another folder"
        )
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        if name not in (CARD, README) and (path.is_symlink() or parts.get(name) != checksum(path)):
            raise UserError(
                f"{path} was added or changed since the model was installed; `overwrite=True` "
                "would delete it. Move it away, or choose another folder"
            )


def _verified_card(path: Path, archive: zipfile.ZipFile, top: PurePosixPath) -> dict[str, Any]:
    """The card, once each part has the checksum that it names and nothing else is there."""
    card = read_card(path, archive, top)
    listed = {str(top / name) for name in (*card["parts"], CARD, README)}
    if listed != set(archive.namelist()):
        odd = min(listed ^ set(archive.namelist()))
        raise UserError(f"{path}: {excerpt(odd)} is not both in the file and on its card")
    for name, expected in card["parts"].items():
        digest = hashlib.sha256()
        with archive.open(str(top / name)) as part:
            while piece := part.read(2**20):
                digest.update(piece)
        if digest.hexdigest() != expected:
            raise UserError(f"{path}: {excerpt(name)} is not what the card says; get it again")
    return card
