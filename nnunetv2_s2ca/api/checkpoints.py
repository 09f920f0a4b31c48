"""Describe and import the authors' checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from nnunetv2_s2ca.checkpoints import importing
from nnunetv2_s2ca.checkpoints.description import describe_checkpoint


@dataclass(frozen=True)
class ImportedModel:
    """An nnU-Net model from the authors' files.

    Attributes:
        folder: The model's folder.
    """

    folder: Path

    def __str__(self) -> str:
        return f"wrote {self.folder}\npredict with: {importing.prediction_command(self.folder)}"


def import_checkpoints(
    files: Sequence[str | PathLike[str]],
    *,
    output: str | PathLike[str] | None = None,
    dataset: str | None = None,
    trust: bool = False,
    overwrite: bool = False,
) -> ImportedModel:
    """Make one nnU-Net model from the authors' files, one fold per file.

    Args:
        files: The authors' `.pkl` files, all of one architecture.
        output: The model's folder, or a folder `DatasetXXX_Name` to put it in. If it is None or
            nnUNet_results, the model goes to the place of `dataset` in nnUNet_results.
        dataset: Id or name of the model's dataset; nnU-Net must know an id.
        trust: Read files that can run code; needed for pickle protocols 4 and 5.
        overwrite: Replace a model that was imported before.

    Raises:
        UserError: A file is damaged or holds something else, or the folder exists; nothing is
            written.
    """
    folder = importing.import_checkpoints(
        [Path(file) for file in files],
        output=None if output is None else Path(output),
        dataset=dataset,
        trust=trust,
        overwrite=overwrite,
    )
    return ImportedModel(folder)


def describe_checkpoints(files: Sequence[str | PathLike[str]], *, trust: bool = False) -> str:
    """Describe the authors' files in a few lines each; nothing is written.

    Args:
        files: The authors' `.pkl` files.
        trust: As for `import_checkpoints`.

    Raises:
        UserError: A file is damaged or not S2CA-Net's.
    """
    return "\n".join(describe_checkpoint(Path(file), trust=trust) for file in files)
