"""nnU-Net's plans for models that were not planned, in benchmarks and tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}


def make_plans(configuration: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Plans with one configuration, `3d_fullres`.

    Args:
        configuration: Its entries besides the defaults; `spacing`, `normalization_schemes` and
            `median_image_size_in_voxels` are needed.
        changes: Further entries of the plans, and changed ones.
    """
    schemes = configuration["normalization_schemes"]
    resample = "resample_data_or_seg_to_shape"
    full = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "use_mask_for_norm": [scheme == "ZScoreNormalization" for scheme in schemes],
        "resampling_fn_data": resample,
        "resampling_fn_data_kwargs": RESAMPLING,
        "resampling_fn_seg": resample,
        "resampling_fn_seg_kwargs": {**RESAMPLING, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": resample,
        "resampling_fn_probabilities_kwargs": {**RESAMPLING, "order": 1},
        "batch_dice": False,
        **configuration,
    }
    return {
        "dataset_name": "Dataset043_BraTS2019",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": configuration["spacing"],
        "original_median_shape_after_transp": configuration["median_image_size_in_voxels"],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": full},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        # z-scoring requires an entry per channel, but does not read it
        "foreground_intensity_properties_per_channel": {str(i): {} for i in range(len(schemes))},
        **changes,
    }


def plain_unet(features: Sequence[int], *, blocks: int) -> dict[str, Any]:
    """nnU-Net's default network, with `blocks` convolutions per stage and strides of 2."""
    stages = len(features)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(features),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * stages,
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
            "n_conv_per_stage": [blocks] * stages,
            "n_conv_per_stage_decoder": [blocks] * (stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
