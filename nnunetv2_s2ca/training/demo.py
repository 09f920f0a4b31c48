"""The trainer of `s2ca demo`: minutes on a CPU."""

from __future__ import annotations

from typing import ClassVar

from nnunetv2_s2ca.training.light_augmentation import LightAugmentation
from nnunetv2_s2ca.training.variants import nnUNetTrainerS2CA_short


class nnUNetTrainerS2CA_demo(LightAugmentation, nnUNetTrainerS2CA_short):
    """nnUNetTrainerS2CA_short for a demonstration: few iterations, and only mirroring."""

    # few epochs: each ends with a validation, a plot and a checkpoint
    length_in_epochs: ClassVar = 4
    iterations_per_epoch: ClassVar = (80, 1)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):  # noqa: N802 (nnU-Net's)
        """Mirror left to right only."""
        *others, _ = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        self.inference_allowed_mirroring_axes = left_to_right = (2,)
        return *others, left_to_right
