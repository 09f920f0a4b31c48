"""Reading nnU-Net's checkpoints without running code, and keeping only what prediction needs."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunetv2_s2ca.checkpoints.archive import check_archive, damaged_file
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.text import excerpt

# what `nnUNetPredictor.initialize_from_trained_model_folder` reads
NEEDED = ("network_weights", "trainer_name", "init_args")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of one of nnU-Net's checkpoints; nothing in the file can run.

    Raises:
        UserError: It is damaged, holds more than numbers and settings, or is none of nnU-Net's.
    """
    check_archive(path)
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        reason = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
        raise UserError(
            f"{path} holds more than weights and settings, so that reading it could run code "
            f"({excerpt(reason.splitlines()[0])}); expected a checkpoint as nnU-Net saves it"
        ) from error
    except Exception as error:  # a damaged file can make the reader raise anything
        raise damaged_file(path, f"{type(error).__name__}: {error}") from error
    _check_content(path, content)
    return content


def for_prediction(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The parts of a checkpoint that prediction needs: no optimiser, no log, no copy of plans."""
    init_args = {"configuration": checkpoint["init_args"]["configuration"]}
    axes = checkpoint.get("inference_allowed_mirroring_axes")
    return {
        # tensors of their own, since a view would be saved with all that it is a view of
        "network_weights": {k: v.clone() for k, v in checkpoint["network_weights"].items()},
        "trainer_name": checkpoint["trainer_name"],
        "init_args": init_args,
        "inference_allowed_mirroring_axes": None if axes is None else tuple(axes),
        "current_epoch": checkpoint.get("current_epoch"),
    }


def _numpy_scalars() -> list[Any]:
    """What nnU-Net logs with; NumPy 2 renamed their module."""
    scalar = np.float64(0).__reduce__()[0]
    names = [f"numpy.{module}.multiarray.scalar" for module in ("core", "_core")]
    kinds = (np.float64, np.float32, np.int64, np.int32, np.bool_)
    return [
        *((scalar, name) for name in names),
        np.dtype,
        *(type(np.dtype(kind)) for kind in kinds),
    ]


def _check_content(path: Path, content: Any) -> None:
    if not isinstance(content, dict) or not all(name in content for name in NEEDED):
        raise UserError(
            f"{path} is no checkpoint of nnU-Net; expected a dict with {', '.join(NEEDED)}"
        )
    weights, init_args = content["network_weights"], content["init_args"]
    named = isinstance(init_args, dict) and isinstance(init_args.get("configuration"), str)
    if not named or not isinstance(content["trainer_name"], str):
        raise UserError(f"{path} does not name its configuration and trainer; train it again")
    if not isinstance(weights, dict) or not all(
        isinstance(value, torch.Tensor) for value in weights.values()
    ):
        raise UserError(f"{path} holds no weights; expected a state dict in `network_weights`")
    bad = next((name for name, value in weights.items() if not _is_finite(value)), None)
    if bad is not None:
        raise UserError(f"{path}: the weights {excerpt(bad)} are not finite; the training failed")


def _is_finite(value: torch.Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())
