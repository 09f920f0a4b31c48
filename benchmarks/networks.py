"""The networks that the benchmarks compare, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from nnunetv2_s2ca import S2CANet

INPUT_CHANNELS = 4
REGIONS = 3
BASELINE = "nnU-Net default"

# What nnU-Net 2.8's ExperimentPlanner and nnUNetPlannerResEncM plan for BraTS (1 mm, median shape
# 140×171×136): patch 128³, batch 2, and these arguments of the network.
_PLANNED = {
    "n_stages": 6,
    "features_per_stage": (32, 64, 128, 256, 320, 320),
    "conv_op": nn.Conv3d,
    "kernel_sizes": 3,
    "strides": (1, 2, 2, 2, 2, 2),
    "n_conv_per_stage_decoder": (2,) * 5,
    "conv_bias": True,
    "norm_op": nn.InstanceNorm3d,
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin": nn.LeakyReLU,
    "nonlin_kwargs": {"inplace": True},
    "deep_supervision": True,
}


def _s2ca(features: Sequence[int]) -> Callable[[Sequence[int]], nn.Module]:
    return lambda patch: S2CANet(
        INPUT_CHANNELS, REGIONS, patch_size=patch, features_per_stage=features
    )


def _nnunet_default(patch: Sequence[int]) -> nn.Module:
    return PlainConvUNet(INPUT_CHANNELS, num_classes=REGIONS, n_conv_per_stage=(2,) * 6, **_PLANNED)


def _nnunet_resenc_m(patch: Sequence[int]) -> nn.Module:
    planned = {**_PLANNED, "n_conv_per_stage_decoder": (1,) * 5}
    blocks = (1, 3, 4, 6, 6, 6)
    return ResidualEncoderUNet(
        INPUT_CHANNELS, num_classes=REGIONS, n_blocks_per_stage=blocks, **planned
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


NETWORKS: dict[str, Callable[[Sequence[int]], nn.Module]] = {
    BASELINE: _nnunet_default,
    "S2CA-Net": _s2ca((16, 32, 64, 128)),
    "S2CA-Net-S": _s2ca((8, 16, 32, 64)),
    "S2CA-Net-L": _s2ca((32, 64, 128, 256)),
    "nnU-Net ResEnc M": _nnunet_resenc_m,
    "SegResNet (16)": _segresnet,
    "UNETR": _unetr,
    "SwinUNETR (48)": _swin_unetr,
}
