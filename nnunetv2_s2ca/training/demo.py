"""The trainer of `s2ca demo`: minutes on a CPU."""

from __future__ import annotations

from typing import Any, ClassVar

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_s2ca.training.variants import nnUNetTrainerS2CA_short


class nnUNetTrainerS2CA_demo(nnUNetTrainerS2CA_short):
    """nnUNetTrainerS2CA_short for a demonstration: few iterations, and only mirroring."""

    # few epochs: each ends with a validation, a plot and a checkpoint
    length_in_epochs: ClassVar = 4
    iterations_per_epoch: ClassVar = (80, 1)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):  # noqa: N802 (nnU-Net's)
        """As in nnU-Net, but mirrored left to right only, and without a margin for rotations."""
        rotation, dummy_2d, _, _ = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        left_to_right = (2,)
        self.inference_allowed_mirroring_axes = left_to_right
        return rotation, dummy_2d, self.configuration_manager.patch_size, left_to_right

    @staticmethod
    def get_training_transforms(
        patch_size: Any,
        rotation_for_DA: Any,  # noqa: N803 (nnU-Net's)
        deep_supervision_scales: Any,
        mirror_axes: tuple[int, ...],
        do_dummy_2d_data_aug: bool,
        use_mask_for_norm: Any = None,
        **labels: Any,
    ) -> BasicTransform:
        """Mirroring and nnU-Net's treatment of labels; more would not help so few iterations."""
        return ComposeTransforms(
            [
                MirrorTransform(allowed_axes=mirror_axes),
                nnUNetTrainer.get_validation_transforms(deep_supervision_scales, **labels),
            ]
        )
