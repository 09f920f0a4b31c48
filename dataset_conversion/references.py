"""The images that predictions belong to: of a dataset, or of a folder without one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from nnunetv2_s2ca.brats.editions import Edition
from nnunetv2_s2ca.core.errors import UserError, disk_errors_named
from nnunetv2_s2ca.core.files import read_json
from nnunetv2_s2ca.core.nifti import FILE_ENDINGS
from nnunetv2_s2ca.core.nnunet import RAW, find_dataset
from nnunetv2_s2ca.core.text import listed
from nnunetv2_s2ca.dataset_conversion.record import read_record
from nnunetv2_s2ca.dataset_conversion.source import find_cases

NNUNET_IMAGE = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})\.nii(\.gz)?", re.DOTALL)


@dataclass(frozen=True)
class References:
    """Which cases there are, and an image of each.

    Attributes:
        folder: Where they are from, for messages.
        edition: Their edition.
        parts: Name of a part of the cases → case identifier → an image.
        known: All case identifiers; there may be more than images.
        owner: Whose the parts are, for messages.
    """

    folder: Path
    edition: Edition
    parts: Mapping[str, Mapping[str, Path]]
    known: Collection[str]
    owner: str = ""

    @property
    def images(self) -> dict[str, Path]:
        """Case identifier → an image."""
        return {case: image for part in self.parts.values() for case, image in part.items()}

    def without_prediction(self, predicted: Collection[str]) -> Iterator[str]:
        """A line for each part that is only partly predicted."""
        for title, part in self.parts.items():
            missing = sorted(part.keys() - set(predicted))
            if 0 < len(missing) < len(part):
                yield (
                    f"note: {len(missing)} of {self.owner}{len(part)} {title} have no "
                    f"prediction: {listed(missing)}"
                )


@disk_errors_named()
def references_of_dataset(dataset: Path | int) -> References:
    """The images of a dataset that `convert` wrote.

    Args:
        dataset: Folder in nnUNet_raw, or its id.

    Raises:
        UserError: There is no such dataset, or its files are damaged.
    """
    folder = find_dataset(dataset, RAW) if isinstance(dataset, int) else Path(dataset)
    record = read_record(folder)
    path = folder / "dataset.json"
    description = read_json(path)
    file_ending = description.get("file_ending")
    if file_ending not in FILE_ENDINGS:
        raise UserError(
            f"{path}: file_ending is {file_ending!r}; expected .nii.gz or .nii. Convert again"
        )
    ending = f"_0000{file_ending}"
    training, to_predict = (
        {
            image.name.removesuffix(ending): image
            for image in (folder / sub).glob(f"*{ending}")
            if not image.name.startswith(".")  # macOS' ._ files
        }
        for sub in ("imagesTr", "imagesTs")
    )
    training.update(_linked_images(description.get("dataset", {}), path))
    return References(
        folder,
        record.edition,
        {"training cases": training, "cases to predict": to_predict},
        {*record.cases, *training, *to_predict},
        owner="the dataset's ",
    )


@disk_errors_named()
def references_in_folder(folder: Path, edition: Edition) -> References:
    """The images in a folder, named as nnU-Net or the edition names them.

    Args:
        folder: Holds `CASE_0000.nii.gz` and so on, or one folder per case, as in a download.
        edition: The edition of the cases.

    Raises:
        UserError: The folder holds no images, or a case appears twice.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; expected the images of the predictions")
    found = sorted(
        (match["case"], match["channel"], path)
        for path in folder.iterdir()
        if not path.name.startswith(".") and (match := NNUNET_IMAGE.fullmatch(path.name))
    )
    images: dict[str, Path] = {}
    for (case, _), files in groupby(found, key=lambda item: item[:2]):
        first, *others = [path for *_, path in files]
        if others:
            raise UserError(f"{first} and {others[0].name} are one image; remove one of them")
        images.setdefault(case, first)
    if not found:
        for item in find_cases(edition, folder):
            if twice := [line for line in item.problems if "appears in" in line]:
                raise UserError(f"{folder}: case {item.identifier} {twice[0]}")
            if item.images:
                images[item.identifier] = next(iter(item.images.values()))
    return References(folder, edition, {f"cases of {folder}": images}, set(images))


def _linked_images(entries: Any, path: Path) -> dict[str, Path]:
    try:
        images = {case: entry["images"][0] for case, entry in entries.items()}
        if not all(isinstance(image, str) for image in images.values()):
            raise TypeError
    except (AttributeError, KeyError, IndexError, TypeError):
        raise UserError(
            f"{path}: dataset is damaged; expected a list of image files for each case. Convert "
            "again"
        ) from None
    return {case: Path(image) for case, image in images.items()}
