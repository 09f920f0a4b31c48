"""The networks that the benchmarks compare, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from nnunetv2.experiment_planning.experiment_planners.network_topology import (
    get_pool_and_conv_props,
)
from torch import nn

from nnunetv2_s2ca import S2CANet

INPUT_CHANNELS = 4
REGIONS = 3
BASELINE = "nnU-Net default"

# What nnU-Net 2.8's ExperimentPlanner and nnUNetPlannerResEncM give every 3D network.
_ARGUMENTS = {
    "conv_op": nn.Conv3d,
    "conv_bias": True,
    "norm_op": nn.InstanceNorm3d,
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin": nn.LeakyReLU,
    "nonlin_kwargs": {"inplace": True},
    "deep_supervision": True,
}
_RESENC_BLOCKS = (1, 3, 4, 6, 6, 6)


def _planned(patch: Sequence[int]) -> dict[str, Any]:
    """Arguments that nnU-Net plans for a patch of 1 mm; six stages for the 128³ of BraTS."""
    _, strides, kernel_sizes, _, _ = get_pool_and_conv_props((1.0,) * 3, patch, 4, 999999)
    stages = len(strides)
    return {
        **_ARGUMENTS,
        "n_stages": stages,
        "features_per_stage": [min(32 * 2**stage, 320) for stage in range(stages)],
        "strides": strides,
        "kernel_sizes": kernel_sizes,
    }


def _s2ca(features: Sequence[int]) -> Callable[..., nn.Module]:
    return lambda patch, **arguments: S2CANet(
        INPUT_CHANNELS, REGIONS, patch_size=patch, features_per_stage=features, **arguments
    )


def _nnunet_default(patch: Sequence[int]) -> nn.Module:
    planned = _planned(patch)
    stages = planned["n_stages"]
    return PlainConvUNet(
        INPUT_CHANNELS,
        num_classes=REGIONS,
        n_conv_per_stage=(2,) * stages,
        n_conv_per_stage_decoder=(2,) * (stages - 1),
        **planned,
    )


def _nnunet_resenc_m(patch: Sequence[int]) -> nn.Module:
    planned = _planned(patch)
    stages = planned["n_stages"]
    return ResidualEncoderUNet(
        INPUT_CHANNELS,
        num_classes=REGIONS,
        n_blocks_per_stage=_RESENC_BLOCKS[:stages],
        n_conv_per_stage_decoder=(1,) * (stages - 1),
        **planned,
    )


def _swin_unetr(patch: Sequence[int]) -> nn.Module:
    from monai.networks.nets import SwinUNETR

    return SwinUNETR(in_channels=INPUT_CHANNELS, out_channels=REGIONS, feature_size=48)


def _unetr(patch: Sequence[int]) -> nn.Module:
    from monai.networks.nets import UNETR

    return UNETR(in_channels=INPUT_CHANNELS, out_channels=REGIONS, img_size=tuple(patch))


def _segresnet(patch: Sequence[int]) -> nn.Module:
    from monai.networks.nets import SegResNet

    return SegResNet(in_channels=INPUT_CHANNELS, out_channels=REGIONS, init_filters=16)


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    BASELINE: _nnunet_default,
    "S2CA-Net": _s2ca((16, 32, 64, 128)),
    "S2CA-Net-S": _s2ca((8, 16, 32, 64)),
    "S2CA-Net-L": _s2ca((32, 64, 128, 256)),
    "nnU-Net ResEnc M": _nnunet_resenc_m,
    "SegResNet (16)": _segresnet,
    "UNETR": _unetr,
    "SwinUNETR (48)": _swin_unetr,
}
