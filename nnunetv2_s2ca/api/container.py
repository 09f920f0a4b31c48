"""A trained model as a container for the BraTS challenge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from nnunetv2_s2ca.brats.editions import edition_named
from nnunetv2_s2ca.container.folder import copy_model, write_program
from nnunetv2_s2ca.core.errors import UserError, disk_errors_named
from nnunetv2_s2ca.core.files import check_output_folder
from nnunetv2_s2ca.core.folders import check_apart, replaced_folder
from nnunetv2_s2ca.models.folder import CHECKPOINT
from nnunetv2_s2ca.segmentation.edition import check_edition
from nnunetv2_s2ca.segmentation.model import PredictorSettings, load_model


@dataclass(frozen=True)
class ContainerFolder:
    """What a container is built from.

    Attributes:
        folder: Its folder.
    """

    folder: Path

    def __str__(self) -> str:
        return (
            f"wrote {self.folder}\n"
            f"build with: docker build -t NAME {self.folder}\n"
            f"or:         cd {self.folder} && apptainer build ../NAME.sif apptainer.def"
        )


@disk_errors_named("written")
def write_container(
    model: str | PathLike[str],
    output: str | PathLike[str],
    *,
    edition: str,
    folds: Sequence[int | str] | None = None,
    checkpoint: str = CHECKPOINT,
    mirroring: bool = True,
    step_size: float = 0.5,
    postprocess: bool = False,
    overwrite: bool = False,
) -> ContainerFolder:
    """Write all that a container needs, as the BraTS challenges run them.

    Args:
        model: Folder of a trained model, or a zip file of it.
        output: The folder to write.
        edition: Whose labels the container writes, such as "brats2023-gli".
        folds: Folds to average; all that the model has if None.
        checkpoint: Name of the checkpoints.
        mirroring: Average over mirrored images.
        step_size: Of the sliding window, as a share of the patch.
        postprocess: Apply the model's own post-processing.
        overwrite: Replace an existing folder.

    Raises:
        UserError: There is no model, it does not fit the edition, or the output exists or cannot
            be written; nothing is written.
    """
    model, output = Path(model), Path(output)
    known = edition_named(edition)
    named = None if folds is None else tuple(map(str, folds))
    check_apart(output, model)
    check_output_folder(output)
    loaded = load_model(model, PredictorSettings(named, checkpoint, "cpu", mirroring, step_size))
    check_edition(loaded, known)
    if postprocess and loaded.rules is None:
        raise UserError(
            f"{model} has no post-processing of its own; fit it with `s2ca postprocess --fit`"
        )
    settings = {
        "edition": edition,
        "checkpoint": checkpoint,
        "mirroring": mirroring,
        "step_size": step_size,
        "postprocessing": postprocess,
    }
    with replaced_folder(output, overwrite=overwrite) as folder:
        copy_model(model, folder / "model", folds=named, checkpoint=checkpoint, edition=edition)
        write_program(folder, settings)
    return ContainerFolder(output)
