"""The list of files that an import wrote, by which its model is recognised."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json

MANIFEST = "s2ca_import.json"
PIECE_BYTES = 2**20


def write_manifest(folder: Path) -> None:
    """List all files of a folder with their SHA-256 checksums in its `s2ca_import.json`."""
    files = {
        path.relative_to(folder).as_posix(): checksum(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    content = {"written by": "s2ca import-checkpoint", "sha256": files}
    (folder / MANIFEST).write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def check_own_files(folder: Path) -> None:
    """Refuse to replace a folder unless all its files are from an import.

    Raises:
        UserError: It has no manifest, or a file or folder differs from the manifest.
    """
    try:
        known = read_json(folder / MANIFEST)["sha256"]
    except (UserError, KeyError):
        known = None
    if not isinstance(known, dict):
        raise UserError(
            f"{folder} holds something other than an imported model, which `overwrite=True` "
            "does not replace; choose another folder"
        )
    folders = {parent for name in known for parent in Path(name).parents}
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if place == Path(MANIFEST) or (
            path.is_dir() and not path.is_symlink() and place in folders
        ):
            continue
        own = path.is_file() and not path.is_symlink()
        if not own or known.get(place.as_posix()) != checksum(path):
            raise UserError(
                f"{path} was added or changed since the model was imported; `overwrite=True` "
                "would delete it. Move it away, or choose another folder"
            )


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
