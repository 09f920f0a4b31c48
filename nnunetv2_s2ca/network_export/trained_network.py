"""Load the network of one fold of a trained model, as nnU-Net's prediction does."""

from __future__ import annotations

from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from torch import nn

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.models.folder import ModelFolder, read_model_folder


@dataclass(frozen=True)
class TrainedNetwork:
    """One fold of a trained model.

    Attributes:
        network: on the CPU in fp32, for inference, with one output.
        predictor: nnU-Net's, which holds plans, labels and mirroring axes.
        folder: the model's.
        checkpoint: the file that the weights are from.
    """

    network: nn.Module
    predictor: Any
    folder: ModelFolder
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
    """Load one fold of a trained model.

    Args:
        model: nnU-Net's folder of the model, or one that holds that one alone.
        fold: Number of the fold, or "all".
        checkpoint: Name of the file in the fold's folder.

    Raises:
        UserError: The folder or a file in it is missing or damaged, or the weights are not those of
            the network that the plans describe.
    """
    try:
        folder = read_model_folder(model, folds=(fold,), checkpoint=checkpoint)
    except UserError as error:
        raise UserError(str(error).replace("`folds`", "`fold`")) from error
    path = folder.checkpoint_of(fold)
    try:
        with redirect_stdout(StringIO()):  # nnU-Net prints what does not concern an export
            predictor = nnUNetPredictor(device=torch.device("cpu"))
            predictor.initialize_from_trained_model_folder(str(folder.path), (fold,), checkpoint)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise UserError(
            f"{path} cannot be loaded with the plans.json and dataset.json of {folder.path} "
            f"({type(error).__name__}: {error}); is it whole, and is its trainer installed?"
        ) from error
    network = predictor.network
    # nnU-Net compiles it where the variable nnUNet_compile says so
    network = getattr(network, "_orig_mod", network).float().eval()
    return TrainedNetwork(network, predictor, folder, path)
