"""Small synthetic downloads of every edition."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from nnunetv2_s2ca.brats.editions import Edition

SHAPE = (7, 6, 5)
# as BraTS has it: left and back first, origin in a corner
AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1.0, 0, 239], [0, 0, 1.0, 0], [0, 0, 0, 1]])


def identifiers(edition: Edition, count: int) -> list[str]:
    """Case identifiers as the edition spells them, two sessions of the first patient included."""
    if edition.name in ("brats2018", "brats2019"):
        return [f"{edition.case_prefix}CBICA_A{n:02d}_1" for n in range(count)]
    if edition.name == "brats2020":
        return [f"{edition.case_prefix}Training_{n:03d}" for n in range(1, count + 1)]
    if edition.name in ("brats2021", "msd-task01"):
        return [f"{edition.case_prefix}{n:05d}" for n in range(count)]
    sessions = [f"{edition.case_prefix}00000-001"]
    return [f"{edition.case_prefix}{n:05d}-000" for n in range(count - 1)] + sessions


def write_case(
    folder: Path,
    edition: Edition,
    identifier: str,
    *,
    segmented: bool = True,
    ending: str = ".nii.gz",
    seed: int = 0,
    affine: np.ndarray = AFFINE,
) -> None:
    """Write the files of a case; `folder` is that of the case, or the MSD's top folder."""
    rng = np.random.default_rng([seed, *identifier.encode()])
    labels = rng.choice(sorted(edition.labels), SHAPE).astype(np.uint8)
    images = {c: rng.integers(0, 999, SHAPE, dtype=np.int16) for c in edition.channels}
    if edition.four_dimensional:
        by_place = sorted(images, key=lambda channel: int(edition.suffixes[channel]))
        data = np.stack([images[channel] for channel in by_place], -1)
        save(folder / ("imagesTr" if segmented else "imagesTs") / f"{identifier}.nii.gz", data)
        if segmented:
            save(folder / "labelsTr" / f"{identifier}.nii.gz", labels)
        return
    separator = "_" if edition.name.startswith("brats20") and "-" not in edition.name else "-"
    for channel, data in images.items():
        name = f"{identifier}{separator}{edition.suffixes[channel]}{ending}"
        save(folder / name, data, affine)
    if segmented:
        name = f"{identifier}{separator}{edition.segmentation_suffix}{ending}"
        save(folder / name, labels, affine)


def write_download(
    folder: Path, edition: Edition, *, count: int = 3, ending: str = ".nii.gz"
) -> dict[str, Path]:
    """Write a download; returns the segmentation of each case."""
    for number, identifier in enumerate(identifiers(edition, count)):
        if edition.four_dimensional:
            place = folder
        elif edition.name in ("brats2018", "brats2019"):
            place = folder / ("HGG", "LGG")[number % 2] / identifier
        else:
            place = folder / identifier
        write_case(place, edition, identifier, ending=ending)
    found = {}
    for identifier in identifiers(edition, count):
        pattern = f"labelsTr/{identifier}*" if edition.four_dimensional else f"{identifier}*"
        files = [p for p in folder.rglob(pattern) if p.is_file()]
        (found[identifier],) = (
            p
            for p in files
            if edition.four_dimensional or edition.segmentation_suffix in p.name.split(".")[0][-4:]
        )
    return found


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
