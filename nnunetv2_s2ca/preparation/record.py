"""The folder `transforms/` of a prepared case: how it was made, without whose it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_regular_file, read_json

RECORD = "transforms.json"
FORMAT = 1
VOXELS = "voxels_sha256"  # of a sequence: all patients of an atlas share its grid


@dataclass(frozen=True)
class Native:
    """A sequence as the scanner gave it.

    Attributes:
        grid: An image of zeros on its grid, uint8.
        transform: From points of the atlas to its points, LPS, mm.
    """

    grid: sitk.Image
    transform: sitk.AffineTransform


def write_record(folder: Path, natives: Mapping[str, Native], about: Mapping[str, Any]) -> None:
    """Write a transform per sequence, and `transforms.json`.

    Args:
        folder: New.
        natives: Name of a sequence, such as `T1ce` → the sequence.
        about: All else that the record holds.
    """
    folder.mkdir()
    sequences = dict(about.get("sequences", {}))
    for name, native in natives.items():
        file = _file(name)
        sitk.WriteTransform(native.transform, str(folder / file))
        sequences[name] = {"file": file, "grid": grid_of(native.grid), **sequences.get(name, {})}
    content = {"format": FORMAT, **about, "sequences": sequences}
    (folder / RECORD).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_native(folder: Path, sequence: str) -> Native:
    """Read one sequence of a record.

    Raises:
        UserError: There is no record, it is damaged, or it lacks the sequence.
    """
    content = read_content(folder)
    entry = content["sequences"].get(sequence)
    if entry is None:
        raise UserError(
            f"{folder / RECORD} has no sequence {sequence!r}; expected one of "
            f"{', '.join(content['sequences'])}"
        )
    path = folder / _file(sequence)
    check_regular_file(path)
    try:
        transform = sitk.AffineTransform(sitk.ReadTransform(str(path)))
        if transform.GetDimension() != 3 or not np.isfinite(transform.GetParameters()).all():
            raise ValueError("expected a 3D affine transform")
        transform.GetInverse()
        return Native(_grid(entry["grid"]), transform)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = (str(error).strip().splitlines() or ["unknown"])[-1]
        raise UserError(
            f"{path} or its entry in {RECORD} is damaged: {reason}; prepare the patient again"
        ) from error


def read_content(folder: Path) -> dict[str, Any]:
    """The whole `transforms.json`.

    Raises:
        UserError: It is missing, damaged, or of another version.
    """
    path = folder / RECORD
    if not folder.is_dir() or not path.exists():
        raise UserError(f"{folder} has no {RECORD}; expected the folder `transforms` of a patient")
    content = read_json(path)
    if content.get("format") != FORMAT:
        raise UserError(
            f"{path} has the format {content.get('format')!r}; this version reads {FORMAT}"
        )
    if not isinstance(content.get("sequences"), dict) or not isinstance(content.get("grid"), dict):
        raise UserError(f"{path} is damaged: it lacks its sequences or its grid")
    return content


def prepared_grid(folder: Path) -> sitk.Image:
    """The grid that the prepared images have, as an image of zeros.

    Raises:
        UserError: As `read_content`, or the grid is damaged.
    """
    try:
        return _grid(read_content(folder)["grid"])
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{folder / RECORD}: its grid is damaged; prepare again") from error


def grid_of(image: sitk.Image) -> dict[str, Any]:
    """Size in voxels, spacing and origin in mm, and direction, in ITK's coordinates (LPS)."""
    return {
        "size": image.GetSize(),
        "spacing": image.GetSpacing(),
        "origin": image.GetOrigin(),
        "direction": image.GetDirection(),
    }


def voxel_digest(voxels: np.ndarray) -> str:
    """SHA-256 of the voxels `(Z, Y, X)` of a prepared image, as float32."""
    return hashlib.sha256(np.ascontiguousarray(voxels, "<f4").tobytes()).hexdigest()


def _file(sequence: str) -> str:
    return f"{sequence.lower()}.tfm"


def _grid(entry: Mapping[str, Any]) -> sitk.Image:
    if not all(0 < size < 4096 for size in entry["size"]):
        raise ValueError(f"the size is {entry['size']}")
    image = sitk.Image([int(size) for size in entry["size"]], sitk.sitkUInt8)
    image.SetSpacing(entry["spacing"])
    image.SetOrigin(entry["origin"])
    image.SetDirection(entry["direction"])
    return image
