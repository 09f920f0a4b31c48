"""Zip files of models: what may be in them, whether they are whole, and unpacking them safely."""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import torch

from nnunetv2_s2ca.checkpoints.archive import ZIP_ERRORS
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_regular_file
from nnunetv2_s2ca.core.text import excerpt
from nnunetv2_s2ca.models.checkpoint import for_prediction, read_checkpoint
from nnunetv2_s2ca.models.folder import CARD

# The archive's comment, which ends the file. The digest is that of all bytes before it: a zip
# file's own checksums leave out the headers, and what lies between the entries.
SEAL = b"s2ca-sha256:"
SEAL_BYTES = len(SEAL) + 64
PIECE_BYTES = 2**20
# Weights hardly compress; what grows more than this was made to fill a disk
LARGEST_GROWTH = 50
SMALL = 2**20  # bytes that JSON may grow to in any case


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file whose names and sizes are harmless; of ours, one that is whole.

    Raises:
        UserError: It is missing, no zip file or a damaged one; was changed since `s2ca model pack`
            wrote it; or has an entry that would be written elsewhere, is a link, is there twice,
            or would fill the disk.
    """
    check_regular_file(path)
    try:
        with path.open("rb") as file:
            sealed = check_seal(path)
            with zipfile.ZipFile(file) as archive:
                _check_names(path, archive)
                if not sealed and is_packed(archive):
                    raise _changed(path)
                yield archive
    except ZIP_ERRORS as error:
        raise UserError(
            f"{path} is no zip file, or a damaged one ({excerpt(str(error))}); copy or download it "
            "again"
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def is_packed(archive: zipfile.ZipFile) -> bool:
    """Whether `s2ca model pack` made the file; `nnUNetv2_export_model_to_zip` has no card."""
    return any(PurePosixPath(name).name == CARD for name in archive.namelist())


def seal(path: Path) -> str:
    """Append the digest of a finished zip file as its comment; returns it."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = SEAL + b"0" * 64
    digest = _digest(path)
    with path.open("r+b") as file:
        file.seek(-64, 2)
        file.write(digest.encode())
    return digest


def check_seal(path: Path) -> str | None:
    """The file's digest, or None if it does not end with one.

    Raises:
        UserError: The file differs from what was sealed.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - SEAL_BYTES, 0))
        end = file.read()
    if not end.startswith(SEAL):
        return None
    digest = _digest(path)
    if end[len(SEAL) :] != digest.encode():
        raise _changed(path)
    return digest


def unpack_for_prediction(
    path: Path, target: Path, *, folds: tuple[str, ...] | None, checkpoint: str
) -> Path:
    """Unpack what prediction needs of the one model in a zip file.

    Checkpoints are read as weights and written anew, so that nothing of the file can run when
    nnU-Net reads them.

    Args:
        path: A file of `s2ca model pack` or `nnUNetv2_export_model_to_zip`.
        target: An empty folder.
        folds: The folds to unpack; all if None.
        checkpoint: Name of the checkpoints.

    Returns:
        The model's folder in `target`.

    Raises:
        UserError: As for `opened`, or the file does not hold one model.
    """
    with opened(path) as archive:
        top = model_in(path, archive)
        model = target / (top.name or "model")
        model.mkdir()
        for name in ("plans.json", "dataset.json", CARD, "s2ca_postprocessing.json"):
            if str(top / name) in archive.namelist():
                extract(archive, str(top / name), model / name)
        for name in archive.namelist():
            match = re.fullmatch(rf"fold_(\w+)/{re.escape(checkpoint)}", _below(name, top))
            if match and (folds is None or match[1] in folds):
                fold = model / f"fold_{match[1]}"
                fold.mkdir()
                unchecked = fold / "unchecked.pth"
                extract(archive, name, unchecked)
                try:
                    content = read_checkpoint(unchecked)
                except UserError as error:
                    reason = str(error).replace(str(unchecked), f"{path}: {name}")
                    raise UserError(reason) from error
                unchecked.unlink()
                torch.save(for_prediction(content), fold / checkpoint)
    return model


def extract(archive: zipfile.ZipFile, name: str, target: Path) -> None:
    """Write one entry to a file of our own naming; its checksum is verified."""
    with archive.open(name) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, PIECE_BYTES)


def model_in(path: Path, archive: zipfile.ZipFile) -> PurePosixPath:
    """The folder of the one model in a zip file.

    Raises:
        UserError: There is none, or several.
    """
    names = set(archive.namelist())
    found = sorted(
        PurePosixPath(name).parent
        for name in names
        if PurePosixPath(name).name == "plans.json"
        and str(PurePosixPath(name).with_name("dataset.json")) in names
    )
    if not found:
        raise UserError(
            f"{path} holds no trained model; expected a file of `s2ca model pack` or "
            "nnUNetv2_export_model_to_zip"
        )
    if len(found) > 1:
        listed = ", ".join(excerpt(str(folder)) for folder in found)
        raise UserError(
            f"{path} holds several models: {listed}. Export one configuration, or install it and "
            "name the folder of one"
        )
    return found[0]


def _below(name: str, folder: PurePosixPath) -> str:
    place = PurePosixPath(name)
    return str(place.relative_to(folder)) if place.is_relative_to(folder) else ""


def _check_names(path: Path, archive: zipfile.ZipFile) -> None:
    seen = set()
    for entry in archive.infolist():
        name = entry.filename
        parts = PurePosixPath(name).parts
        elsewhere = name.startswith("/") or ".." in parts or "\\" in name or ":" in name
        if elsewhere or not parts or name != entry.orig_filename:
            raise UserError(
                f"{path} has an entry {excerpt(name)!r}, which would be written outside the "
                "model's folder. Do not use this file"
            )
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise UserError(f"{path} has a link, {excerpt(name)!r}; expected files only")
        if PurePosixPath(name) in seen:
            raise UserError(f"{path} has two entries {excerpt(name)!r}; expected one")
        seen.add(PurePosixPath(name))
        if entry.file_size > max(LARGEST_GROWTH * entry.compress_size, SMALL):
            raise UserError(
                f"{path}: {excerpt(name)!r} would grow from {entry.compress_size:,} to "
                f"{entry.file_size:,} bytes; no model does. Do not use this file"
            )


def _digest(path: Path) -> str:
    """SHA-256 of a file but for the 64 digits of its seal."""
    digest, missing = hashlib.sha256(), path.stat().st_size - 64
    with path.open("rb") as file:
        while missing > 0 and (piece := file.read(min(PIECE_BYTES, missing))):
            digest.update(piece)
            missing -= len(piece)
    return digest.hexdigest()


def _changed(path: Path) -> UserError:
    return UserError(
        f"{path} is not as `s2ca model pack` wrote it: its checksum is wrong. Copy or download it "
        "again"
    )
