"""Multi-scale context aggregation (MCA): the bottleneck."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunetv2_s2ca.architecture.attention import ChannelAttention, SpatialAttention
from nnunetv2_s2ca.architecture.residual_block import ResidualBlock
from nnunetv2_s2ca.architecture.shifted_mlp import ShiftedMLP


class MultiScaleContextAggregation(nn.Module):
    r"""Gather all four encoder levels at the coarsest one and mix them globally.

    .. math::
        z &= \mathrm{SE}([D_0 x_0, D_1 x_1, D_2 x_2, x_3]) \\
        y &= x_3 + A(R_2(R_1(z))) \cdot V(z)

    with strided convolutions D, residual blocks R, spatial attention A and the shifted MLP V.

    Args:
        features_per_stage: channels of the four levels.
        strides: strides into the four levels, the first all ones.
        swap_axes: see `ShiftedMLP`.
    """

    def __init__(
        self,
        features_per_stage: Sequence[int],
        *,
        strides: Sequence[Sequence[int]],
        swap_axes: bool = False,
    ):
        super().__init__()
        channels = sum(features_per_stage)
        bottom = features_per_stage[-1]
        self.down = nn.ModuleList(
            nn.Conv3d(f, f, size, stride=size)
            for level, f in enumerate(features_per_stage[:-1])
            for size in [_stride_to_bottom(strides, level)]
        )
        self.channel_attention = ChannelAttention(channels)
        self.local = nn.Sequential(ResidualBlock(channels, bottom), ResidualBlock(bottom, bottom))
        self.spatial_attention = SpatialAttention(3, kernel_size=1)
        self.shifted_mlp = ShiftedMLP(channels, bottom, swap_axes=swap_axes)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Four maps (B, f_i, …) from fine to coarse → (B, f_3, …) at the coarsest level."""
        gathered = [down(x) for down, x in zip(self.down, levels, strict=False)]
        z = self.channel_attention(torch.cat([*gathered, levels[-1]], dim=1))
        return levels[-1] + self.spatial_attention(self.local(z)) * self.shifted_mlp(z)


def _stride_to_bottom(strides: Sequence[Sequence[int]], level: int) -> tuple[int, ...]:
    return tuple(math.prod(axis) for axis in zip(*strides[level + 1 :], strict=True))
