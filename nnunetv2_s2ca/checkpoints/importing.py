"""Turn the authors' checkpoints into a model for nnU-Net."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from nnunetv2.paths import nnUNet_results
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.file_path_utilities import get_output_folder

from nnunetv2_s2ca.checkpoints.conventions import to_nnunet_channels
from nnunetv2_s2ca.checkpoints.manifest import check_own_files, write_manifest
from nnunetv2_s2ca.checkpoints.model_folder import (
    CONFIGURATION,
    PLANS_NAME,
    TRAINER,
    write_fold,
    write_model_files,
)
from nnunetv2_s2ca.checkpoints.network import Architecture, translate_checkpoint
from nnunetv2_s2ca.checkpoints.reading import read_checkpoint
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_output_folder
from nnunetv2_s2ca.core.folders import check_apart, replaced_folder

MODEL_NAME = f"{TRAINER}__{PLANS_NAME}__{CONFIGURATION}"
DATASET_NAME = re.compile(r"Dataset\d{3}_[^/\\\0]+")  # one folder, of any name
# if neither the user nor the path names a dataset; prediction from a model folder ignores it
NO_DATASET = "Dataset999_S2CAImported"


def import_checkpoints(
    files: Sequence[Path],
    *,
    output: Path | None = None,
    dataset: str | None = None,
    trust: bool = False,
    overwrite: bool = False,
) -> Path:
    """Turn the authors' files into the folds 0, 1, … of one nnU-Net model; returns its folder.

    Arguments and errors are those of the public function.
    """
    if output is not None:
        check_output_folder(output.parent)
    dataset_name = _dataset_name(dataset, output)
    folder = _model_folder(output, dataset_name if dataset is not None else None)
    check_apart(folder, *files)
    try:
        with replaced_folder(folder, overwrite=overwrite) as new:
            if folder.exists() and any(folder.iterdir()):
                check_own_files(folder)
            _write_model(new, files, dataset=dataset_name, trust=trust)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder


def prediction_command(folder: Path) -> str:
    """The nnU-Net command that predicts with all folds of a model."""
    model = shlex.quote(str(folder))
    # without -f, nnU-Net wants five
    folds = " ".join(sorted(path.name.removeprefix("fold_") for path in folder.glob("fold_*")))
    return (
        f"nnUNetv2_predict_from_modelfolder -i INPUT_FOLDER -o OUTPUT_FOLDER -m {model} -f {folds}"
    )


def _write_model(folder: Path, files: Sequence[Path], *, dataset: str, trust: bool) -> None:
    """Write a model's folder; only one file is in memory at a time."""
    first: Architecture | None = None
    for fold, file in enumerate(files):
        translated = translate_checkpoint(read_checkpoint(file, trust=trust))
        weights = to_nnunet_channels(translated)
        architecture = translated.architecture
        if first is None:
            first = architecture
            source = ", ".join(file.name for file in files)
            write_model_files(folder, architecture, dataset=dataset, source=source)
        elif architecture != first:
            raise UserError(
                f"{file} and {files[0]} hold different networks, which cannot be folds of one "
                f"model; import them separately. {_differences(architecture, first)}"
            )
        write_fold(folder, fold, weights=weights, architecture=architecture)
    write_manifest(folder)


def _differences(architecture: Architecture, other: Architecture) -> str:
    theirs = asdict(other)
    return "; ".join(
        f"{name}: {value} instead of {theirs[name]}"
        for name, value in asdict(architecture).items()
        if value != theirs[name]
    )


def _dataset_name(dataset: str | None, output: Path | None) -> str:
    if dataset is None:
        parts = () if output is None else output.absolute().parts
        named = [part for part in parts if DATASET_NAME.fullmatch(part)]
        return named[-1] if named else NO_DATASET
    if DATASET_NAME.fullmatch(dataset):
        return dataset
    unknown = UserError(
        f"`dataset={dataset}`: nnU-Net has no such dataset; name the id of one in nnUNet_raw, "
        "nnUNet_preprocessed or nnUNet_results, or a full name such as Dataset043_BraTS2019"
    )
    if not dataset.isdecimal():  # nnU-Net accepts anything that starts like a name
        raise unknown
    try:
        return str(maybe_convert_to_dataset_name(dataset))
    except (RuntimeError, ValueError) as error:
        raise unknown from error


def _model_folder(output: Path | None, dataset: str | None) -> Path:
    if output is not None and dataset is not None and _is_results_folder(output):
        output = None
    if output is not None:
        output = output.absolute()
        return output / MODEL_NAME if DATASET_NAME.fullmatch(output.name) else output
    if dataset is None:
        raise UserError("name a folder for the model (`output`) or its `dataset`")
    if not nnUNet_results.is_set():
        raise UserError("nnUNet_results is not set; set it, or name a folder (`output`)")
    return Path(get_output_folder(dataset, TRAINER, PLANS_NAME, CONFIGURATION)).absolute()


def _is_results_folder(folder: Path) -> bool:
    return nnUNet_results.is_set() and Path(nnUNet_results).resolve() == folder.resolve()
