"""nnU-Net's folders, and the datasets in them."""

from __future__ import annotations

import os
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError

RAW, PREPROCESSED, RESULTS = FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def nnunet_folder(variable: str) -> Path:
    """One of nnU-Net's three folders.

    Args:
        variable: The environment variable that names it, one of `FOLDERS`.

    Raises:
        UserError: The variable is not set, or does not name a readable folder.
    """
    value = os.environ.get(variable)
    if not value:
        raise UserError(
            f"the environment variable {variable} is not set; nnU-Net needs it (see `s2ca doctor`)"
        )
    folder = Path(value)
    try:
        os.scandir(f"{folder}/.").close()  # the dot also tests the right to enter the folder
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{variable} is {folder}, which is not a folder; create it first") from None
    except OSError as error:
        raise UserError(
            f"{variable} is {folder}, which cannot be read: {error.strerror}"
        ) from error
    return folder


def find_raw_dataset(dataset_id: int) -> Path:
    """The folder of a dataset in nnUNet_raw.

    Raises:
        UserError: There is none, or more than one.
    """
    raw = nnunet_folder(RAW)
    folders = sorted(raw.glob(f"Dataset{dataset_id:03d}_*"))
    if len(folders) != 1:
        found = ", ".join(folder.name for folder in folders) or "none"
        raise UserError(f"expected one dataset with the id {dataset_id} in {raw}; found {found}")
    return folders[0]


def check_id_is_free(name: str) -> None:
    """Refuse a dataset id that another dataset has, since nnU-Net cannot tell them apart.

    Args:
        name: The dataset's name, such as `Dataset043_BraTS2019`.

    Raises:
        UserError: One of nnU-Net's folders holds a dataset of the same id and another name.
    """
    number = name.partition("_")[0]
    for variable in FOLDERS:
        folder = os.environ.get(variable)
        same = sorted(Path(folder).glob(f"{number}*")) if folder else []
        other = next((path for path in same if path.is_dir() and path.name != name), None)
        if other is not None:
            raise UserError(
                f"{other} has the same id as {name}, and nnU-Net cannot tell them apart. Use "
                "another id (`dataset_id`), or remove the one you do not need"
            )
