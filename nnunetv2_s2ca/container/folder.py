"""Writing the folder that a container is built from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nnunetv2_s2ca.container.recipes import (
    PACKAGE,
    apptainer_definition,
    dockerfile,
    requirements,
)
from nnunetv2_s2ca.models.archive import unpack_for_prediction
from nnunetv2_s2ca.models.folder import read_model_folder
from nnunetv2_s2ca.models.pack import pack

NOT_PROGRAM = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def copy_model(
    model: Path, target: Path, *, folds: tuple[str, ...] | None, checkpoint: str, edition: str
) -> None:
    """Copy what prediction needs of a model: no optimiser, no validation.

    Args:
        model: Folder of a trained model, or a zip file.
        target: New folder.
        folds: All if None.
        checkpoint: Name of the checkpoints.
        edition: Noted in the model card of a folder.

    Raises:
        UserError: There is no model, or it is damaged.
    """
    with TemporaryDirectory(prefix=".s2ca_", dir=target.parent) as scratch:
        archive = model
        if model.is_dir() or not model.exists():
            found = read_model_folder(model, folds=folds, checkpoint=checkpoint)
            archive = Path(scratch, "model.zip")
            options: dict[str, Any] = {"postprocessing": None, "licence": None, "overwrite": False}
            pack(found, archive, edition=edition, **options)
        unpacked = Path(scratch, "model")
        unpacked.mkdir()
        folder = unpack_for_prediction(archive, unpacked, folds=folds, checkpoint=checkpoint)
        folder.rename(target)


def write_program(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write everything but the model.

    Args:
        folder: The container's folder.
        settings: Keyword arguments of `segment_folder`.
    """
    home = folder / "package" / "nnunetv2_s2ca"
    for name, place in (
        ("nnunetv2_s2ca", home),
        ("nnunetv2_s2ca.dataset_conversion", home / "dataset_conversion"),  # apart in a checkout
    ):
        spec = find_spec(name)
        source = Path(spec.origin if spec and spec.origin else "").resolve().parent
        shutil.copytree(source, place, ignore=NOT_PROGRAM, dirs_exist_ok=True)
    package = distribution(PACKAGE)
    metadata = package.read_text("METADATA") or ""
    name = f"nnunetv2_s2ca-{package.version}.dist-info"
    (folder / "package" / name).mkdir()
    texts = {
        f"package/{name}/METADATA": metadata,
        "Dockerfile": dockerfile(),
        "apptainer.def": apptainer_definition(),
        "requirements.txt": requirements(),
        "settings.json": f"{json.dumps(dict(settings), indent=1)}\n",
    }
    for path, text in texts.items():
        (folder / path).write_text(text, encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name("entrypoint.py"), folder / "entrypoint.py")
