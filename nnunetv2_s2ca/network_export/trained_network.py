"""Load the network of one fold of a trained model, as nnU-Net's prediction does."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from torch import nn

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_regular_file, read_json


@dataclass(frozen=True)
class TrainedNetwork:
    """One fold of a trained model.

    Attributes:
        network: on the CPU in fp32, for inference, with one output.
        predictor: nnU-Net's, which holds plans, labels and mirroring axes.
        fold: number of the fold, or "all".
        checkpoint: the file that the weights are from.
    """

    network: nn.Module
    predictor: Any
    fold: str
    checkpoint: Path

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """Shape of a patch, (1, C, *patch_size)."""
        configuration = self.predictor.configuration_manager
        channels = determine_num_input_channels(
            self.predictor.plans_manager, configuration, self.predictor.dataset_json
        )
        return (1, channels, *map(int, configuration.patch_size))


def load_trained_network(model: Path, *, fold: str, checkpoint: str) -> TrainedNetwork:
    """Load one fold of nnU-Net's folder of a trained model.

    Args:
        model: the folder, `nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION`.
        fold: number of the fold, or "all".
        checkpoint: name of the file in the fold's folder.

    Raises:
        UserError: the folder or a file in it is missing or damaged, or the weights are not those
            of the network that the plans describe.
    """
    path = _find_checkpoint(model, fold=fold, checkpoint=checkpoint)
    try:
        with redirect_stdout(io.StringIO()):  # nnU-Net prints what does not concern an export
            predictor = nnUNetPredictor(device=torch.device("cpu"))
            predictor.initialize_from_trained_model_folder(str(model), (fold,), checkpoint)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise UserError(
            f"{path} cannot be loaded with the plans.json and dataset.json of {model} "
            f"({type(error).__name__}: {error}); is it whole, and is its trainer installed?"
        ) from error
    network = predictor.network
    # nnU-Net compiles it where the variable nnUNet_compile says so
    network = getattr(network, "_orig_mod", network).float().eval()
    return TrainedNetwork(network, predictor, fold, path)


def _find_checkpoint(model: Path, *, fold: str, checkpoint: str) -> Path:
    if fold != "all" and not (fold.isascii() and fold.isdecimal()):
        raise UserError(f"`fold={fold}`: expected the number of a fold, or all")
    if not model.is_dir():
        raise UserError(f"{model} is not a folder; expected nnU-Net's folder of a trained model")
    for name in ("plans.json", "dataset.json"):
        if not (model / name).exists():
            raise UserError(
                f"{model} has no {name}; expected nnU-Net's folder of a trained model, named like "
                "nnUNetTrainerS2CA__nnUNetPlans__3d_fullres"
            )
        read_json(model / name)
    folder = model / f"fold_{fold}"
    if not folder.is_dir():
        folds = sorted(path.name.removeprefix("fold_") for path in model.glob("fold_*"))
        raise UserError(
            f"{model} has no fold {fold}; it has {', '.join(folds) or 'none'}. Choose with `fold`"
        )
    path = folder / checkpoint
    if not path.exists():
        found = ", ".join(sorted(file.name for file in folder.glob("*.pth"))) or "none"
        raise UserError(
            f"{path} does not exist; the fold has these checkpoints: {found}. Choose with "
            "`checkpoint`, or finish the training"
        )
    check_regular_file(path)
    return path
