"""A patient's scans as the network's input: sequences, grid and orientation of the training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.imaging.grids import coverage, resample, same_grid
from nnunetv2_s2ca.imaging.orientation import Turn, orientation_of, turn
from nnunetv2_s2ca.imaging.scans import Scan, read_scan
from nnunetv2_s2ca.models.folder import ASSUMED
from nnunetv2_s2ca.segmentation.checks import (
    FULL_COVERAGE,
    LEAST_COVERAGE,
    check_different,
    exchanged_sequences,
    odd_about_scan,
)
from nnunetv2_s2ca.segmentation.model import LoadedModel

DEFAULT_SPACES = ("T1ce", "T1", "T2", "FLAIR")


@dataclass(frozen=True)
class NetworkInput:
    """What nnU-Net's preprocessor gets, and the way back.

    Attributes:
        voxels: `(C, Z, Y, X)`, float32, in the training's orientation.
        properties: What nnU-Net's reader would say of them.
        space: The sequence on whose grid they lie.
        scan: Its scan.
        turned: Exchanges its axes for those of `voxels`.
        images: Sequence → image on the grid of `voxels`.
        warnings: What looks wrong, or was changed.
    """

    voxels: np.ndarray
    properties: dict[str, Any]
    space: str
    scan: Scan
    turned: Turn
    images: dict[str, sitk.Image]
    warnings: tuple[str, ...]


def read_input(
    files: Mapping[str, Path], model: LoadedModel, *, space: str | None = None
) -> NetworkInput:
    """Read a patient's scans and bring them to the orientation and grid that the model needs.

    Args:
        files: Sequence, one of `SEQUENCES`, → NIfTI file or folder of a DICOM series.
        model: Says which sequences and which orientation.
        space: The sequence whose grid the result gets; the T1ce's if None and there is one.

    Raises:
        UserError: A sequence is missing, a file cannot be read, two are the same, or one does not
            overlap with the others.
    """
    space = _check_sequences(files, model, space)
    scans = {
        name: read_scan(path)
        for name, path in files.items()
        if name in model.sequences or name == space
    }
    check_different(scans)
    warnings = [text for name, scan in scans.items() for text in odd_about_scan(name, scan)]
    if model.orientation_source == ASSUMED:
        warnings.append(
            f"{model.name} does not tell the orientation of its training images; "
            f"{model.orientation}, that of BraTS, is assumed. Pack the model where it was trained "
            "(`s2ca model pack`), so that its card tells"
        )
    unused = [name for name in files if name not in scans]
    if unused:
        warnings.append(f"{', '.join(unused)}: the model was trained without; not used")
    reference, turned = turn(scans[space].image, model.orientation)
    images = {}
    for name in model.sequences:
        image, remark = _on_grid(scans[name], reference, model.orientation, space)
        images[name] = image
        if remark:
            warnings.append(f"{name}: {remark}")
    arrays = {name: sitk.GetArrayViewFromImage(image) for name, image in images.items()}
    warnings += exchanged_sequences(arrays)
    return NetworkInput(
        voxels=np.stack(list(arrays.values())),
        properties=_properties(reference),
        space=space,
        scan=scans[space],
        turned=turned,
        images=images,
        warnings=tuple(warnings),
    )


def _check_sequences(files: Mapping[str, Path], model: LoadedModel, space: str | None) -> str:
    missing = [name for name in model.sequences if name not in files]
    if missing:
        raise UserError(
            f"{model.name} was trained on {', '.join(model.sequences)}; {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing. Name the file "
            f"({', '.join(f'`{name.lower()}`' for name in missing)}), or use a model that was "
            "trained without"
        )
    if space is None:
        return next(name for name in DEFAULT_SPACES if name in files and name in model.sequences)
    if space not in files:
        raise UserError(f"`space` is {space.lower()}, of which there is no file; name its file")
    return space


def _on_grid(
    scan: Scan, grid: sitk.Image, orientation: str, space: str
) -> tuple[sitk.Image, str | None]:
    """A scan's image on the grid, and what was done to it, if more than exchanging axes."""
    image, _ = turn(scan.image, orientation)
    if same_grid(image, grid):
        return image, None
    covered = coverage(scan.image, grid)
    if covered < LEAST_COVERAGE:
        raise UserError(
            f"{scan.path} covers {covered:.0%} of the {space}: they do not overlap, or hardly. "
            "Check that both are of one patient and visit, and register them first"
        )
    before = " × ".join(f"{n:.3g}" for n in scan.image.GetSpacing())
    after = " × ".join(f"{n:.3g}" for n in grid.GetSpacing())
    partly = "" if covered >= FULL_COVERAGE else f"; it covers {covered:.0%} of it"
    return resample(scan.image, grid), (
        f"resampled from {scan.image.GetSize()} voxels of {before} mm, "
        f"{orientation_of(scan.image)}, to the grid of the {space}, {grid.GetSize()} of {after} mm"
        f"{partly}"
    )


def _properties(image: sitk.Image) -> dict[str, Any]:
    """As from nnU-Net's `SimpleITKIO.read_images`."""
    geometry = {
        "spacing": image.GetSpacing(),
        "origin": image.GetOrigin(),
        "direction": image.GetDirection(),
    }
    return {"sitk_stuff": geometry, "spacing": list(np.abs(image.GetSpacing()[::-1]))}
