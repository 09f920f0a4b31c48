"""nnU-Net's folders, and the datasets in them."""

from __future__ import annotations

import os
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError

RAW, PREPROCESSED, RESULTS = FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")

MADE_BY = {
    RAW: "`s2ca convert`",
    PREPROCESSED: "nnUNetv2_plan_and_preprocess",
    RESULTS: "nnUNetv2_train",
}


def nnunet_folder(variable: str, *, missing_ok: bool = False) -> Path:
    """One of nnU-Net's three folders.

    Args:
        variable: The environment variable that names it, one of `FOLDERS`.
        missing_ok: Return the path even if there is no such folder.

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
        if missing_ok:
            return folder
        raise UserError(f"{variable} is {folder}, which is not a folder; create it first") from None
    except OSError as error:
        raise UserError(
            f"{variable} is {folder}, which cannot be read: {error.strerror}"
        ) from error
    return folder


def find_dataset(name_or_id: int | str, variable: str) -> Path:
    """The folder of a dataset in one of nnU-Net's three folders.

    Args:
        name_or_id: The dataset's id, or its whole name.
        variable: One of `FOLDERS`.

    Raises:
        UserError: There is none, or more than one.
    """
    base, wanted = nnunet_folder(variable), str(name_or_id)
    number = f"Dataset{wanted.lstrip('0'):0>3}_" if wanted.isdecimal() else f"{wanted}/"
    folders = sorted(path for path in base.glob("Dataset*") if path.is_dir())
    found = [path for path in folders if f"{path.name}/".startswith(number)]
    if len(found) != 1:
        names = ", ".join(path.name for path in found)
        raise UserError(
            f"{base} has {len(found) or 'no'} datasets for {wanted}"
            + (f": {names}; expected one" if found else f"; run {MADE_BY[variable]} first")
        )
    return found[0]


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
