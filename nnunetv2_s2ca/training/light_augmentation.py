"""nnU-Net's trainer with little augmentation, for a few hundred steps on synthetic patients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class LightAugmentation(nnUNetTrainer):
    """Mirroring and a few transforms of intensity, in place of nnU-Net's augmentation."""

    @classmethod
    def intensity_transforms(cls) -> Sequence[BasicTransform]:
        """Transforms of the image that come before mirroring."""
        return ()

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):  # noqa: N802 (nnU-Net's)
        """As in nnU-Net, but without the margin for rotations."""
        rotation, dummy_2d, _, axes = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        return rotation, dummy_2d, self.configuration_manager.patch_size, axes

    @classmethod
    def get_training_transforms(
        cls,
        patch_size: Any,
        rotation_for_DA: Any,  # noqa: N803 (nnU-Net's)
        deep_supervision_scales: Any,
        mirror_axes: tuple[int, ...],
        do_dummy_2d_data_aug: bool,
        use_mask_for_norm: Sequence[bool] | None = None,
        **labels: Any,
    ) -> BasicTransform:
        """Intensity, mirroring, the mask of normalisation, and nnU-Net's treatment of labels."""
        transforms = [*cls.intensity_transforms(), MirrorTransform(allowed_axes=mirror_axes)]
        masked = [i for i, mask in enumerate(use_mask_for_norm or ()) if mask]
        if masked:
            transforms.append(
                MaskImageTransform(apply_to_channels=masked, channel_idx_in_seg=0, set_outside_to=0)
            )
        labels_last = nnUNetTrainer.get_validation_transforms(deep_supervision_scales, **labels)
        return ComposeTransforms([*transforms, labels_last])
