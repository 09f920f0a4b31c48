"""Multi-scale attentive deformable convolution (MS-ADC): the skip connections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunetv2_s2ca.architecture.attention import ChannelAttention
from nnunetv2_s2ca.architecture.deform_conv import DeformConv3d
from nnunetv2_s2ca.architecture.pointwise import PointwiseConv3d

# The sampled maps have a twelfth of the gathered channels: 96 → 8 in S2CA-Net.
CHANNEL_REDUCTION = 12


class MultiScaleDeformConv(nn.Module):
    r"""Bring three levels to the middle one, adapt to the tumour's shape there, hand it back.

    .. math::
        z &= \mathrm{SE}([D x_0, x_1, U x_2]) \\
        y &= \mathrm{ADC}(z) \\
        s_i &= x_i + T_i \, y

    with (transposed) convolutions D, U and T to the other levels' sizes.

    Args:
        features_per_stage: channels of the three finest levels.
        strides: strides into these levels, the first all ones.
    """

    def __init__(self, features_per_stage: Sequence[int], *, strides: Sequence[Sequence[int]]):
        super().__init__()
        f0, f1, f2 = features_per_stage
        _, fine_stride, coarse_stride = (tuple(stride) for stride in strides)
        channels = 3 * f1
        self.down = nn.Conv3d(f0, f1, 3, stride=fine_stride, padding=1)
        self.up = nn.ConvTranspose3d(f2, f1, coarse_stride, stride=coarse_stride)
        self.channel_attention = ChannelAttention(channels)
        self.deform_conv = DeformConv3d(channels, reduced_channels=channels // CHANNEL_REDUCTION)
        self.to_skips = nn.ModuleList(
            [
                nn.ConvTranspose3d(channels, f0, fine_stride, stride=fine_stride),
                PointwiseConv3d(channels, f1),
                nn.Conv3d(channels, f2, coarse_stride, stride=coarse_stride),
            ]
        )

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Three maps (B, f_i, …) from fine to coarse → as many of the same shapes."""
        x0, x1, x2 = levels
        gathered = torch.cat([self.down(x0), x1, self.up(x2)], dim=1)
        # z itself would be one of the largest maps of the network
        y = self.deform_conv(gathered, scale=self.channel_attention.gate(gathered))
        return [to_skip(y).add_(x) for x, to_skip in zip(levels, self.to_skips, strict=True)]
