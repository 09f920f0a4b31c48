"""The trainer of `s2ca demo`: minutes on a CPU."""

from __future__ import annotations

from typing import ClassVar

import torch

from nnunetv2_s2ca.training.trainer import nnUNetTrainerS2CA


class nnUNetTrainerS2CA_demo(nnUNetTrainerS2CA):
    """nnUNetTrainerS2CA for a demonstration: few iterations, mirrored left to right only."""

    length_in_epochs: ClassVar = 10

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 (nnU-Net's own default)
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = 10
        self.num_val_iterations_per_epoch = 1

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):  # noqa: N802 (nnU-Net's)
        """As nnU-Net, but inference mirrors along one axis, which spares three quarters of it."""
        rotation, dummy_2d, patch_size, _ = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        left_to_right = (2,)
        self.inference_allowed_mirroring_axes = left_to_right
        return rotation, dummy_2d, patch_size, left_to_right
