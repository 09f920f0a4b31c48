"""The files of each case that a report or the viewer shows: prediction, truth, images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nnunetv2_s2ca.brats.editions import EDITIONS
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json
from nnunetv2_s2ca.core.nifti import FILE_ENDINGS
from nnunetv2_s2ca.evaluation.segmentations import find_segmentations

# what the challenge's file names and nnU-Net's `channel_names` call the sequences
SEQUENCES = {
    "t1": "T1",
    "t1n": "T1",
    "t1w": "T1",
    "t1ce": "T1ce",
    "t1c": "T1ce",
    "t1gd": "T1ce",
    "t2": "T2",
    "t2w": "T2",
    "flair": "FLAIR",
    "t2f": "FLAIR",
}
_BRATS_SUFFIXES = {suffix for edition in EDITIONS.values() for suffix in edition.suffixes.values()}
_MAP = re.compile(r"(.+)_(?:uncertainty|entropy|disagreement|probability)(?:_.+)?")
_CHANNEL = re.compile(r"(.+)_(\d{4})\Z")


@dataclass(frozen=True)
class CaseFiles:
    """The files of a case.

    Attributes:
        case: case identifier.
        prediction: its predicted labels.
        truth: its true labels.
        images: sequence, such as "FLAIR" → image.
        probabilities: nnU-Net's `.npz` beside the prediction.
        fold: the fold that held the case out.
    """

    case: str
    prediction: Path | None = None
    truth: Path | None = None
    images: Mapping[str, Path] = field(default_factory=dict)
    probabilities: Path | None = None
    fold: int | None = None

    def __str__(self) -> str:
        return self.case


def segmentations_of(folder: Path | None, missing: list[str], what: str) -> dict[str, Path]:
    """The segmentations of a folder by case; if there are none, `missing` gets a sentence."""
    if folder is None:
        return {}
    try:
        found = find_segmentations(folder)
        return {case: path for case, path in found.items() if not _is_map(case, found)}
    except UserError as error:
        missing.append(f"{what}: {error}.")
        return {}


def images_of(folder: Path | None, cases: Mapping[str, Path | None]) -> dict[str, dict[str, Path]]:
    """The images of each case.

    Args:
        folder: nnU-Net's `imagesTr` or the like, or a folder in BraTS' layout; None if unknown.
        cases: case identifier → a segmentation, beside which images in BraTS' layout may lie.

    Returns:
        Case → sequence → file; cases without images are left out.
    """
    found: dict[str, dict[str, Path]] = {}
    if folder is not None and folder.is_dir():
        names = _channel_names(folder)
        for path in sorted(folder.iterdir()):
            match = _CHANNEL.fullmatch(_stem(path)) if _is_image(path) else None
            if match and match[1] in cases:
                sequence = names.get(int(match[2]), f"channel {int(match[2])}")
                found.setdefault(match[1], {})[sequence] = path
    for case, segmentation in cases.items():
        if case in found:
            continue
        places = [segmentation.parent] if segmentation is not None else []
        if folder is not None:
            places += [folder / case, *folder.glob(f"*/{_literal(case)}")]
        for place in places:
            images = _brats_images(place, case)
            if images:
                found[case] = images
                break
    return found


def images_beside(truth: Path | None) -> Path | None:
    """nnU-Net's folder of images for one of its folders of labels: `imagesTr` for `labelsTr`."""
    if truth is not None and re.fullmatch(r"labels\w*", truth.name):
        folder = truth.with_name(truth.name.replace("labels", "images"))
        return folder if folder.is_dir() else None
    return None


def sequence_name(name: str) -> str:
    """`FLAIR` for `t2f`, and so on; other names are unchanged."""
    return SEQUENCES.get(name.lower(), name)


def _is_map(name: str, cases: Mapping[str, Path]) -> bool:
    """Whether a file is a map beside a segmentation, such as `CASE_entropy`."""
    match = _MAP.fullmatch(name)
    return match is not None and match[1] in cases


def _channel_names(folder: Path) -> dict[int, str]:
    """Channel → sequence, by the `dataset.json` in or above a folder of images."""
    for place in (folder / "dataset.json", folder.parent / "dataset.json"):
        try:
            names = read_json(place).get("channel_names", {})
            return {int(number): sequence_name(str(name)) for number, name in names.items()}
        except (UserError, AttributeError, ValueError):
            continue
    return {}


def _brats_images(folder: Path, case: str) -> dict[str, Path]:
    images = {}
    for suffix in sorted(_BRATS_SUFFIXES):
        for separator in "_-":
            for ending in FILE_ENDINGS:
                path = folder / f"{case}{separator}{suffix}{ending}"
                if path.is_file():
                    images[sequence_name(suffix)] = path
    return images


def _is_image(path: Path) -> bool:
    return path.name.endswith(FILE_ENDINGS) and not path.name.startswith(".") and path.is_file()


def _stem(path: Path) -> str:
    ending = next(ending for ending in FILE_ENDINGS if path.name.endswith(ending))
    return path.name.removesuffix(ending)


def _literal(name: str) -> str:
    """A name in which nothing is a wildcard."""
    return re.sub(r"([*?[])", r"[\1]", name)
