"""Multi-scale context aggregation (MCA): the bottleneck, built on axially shifted MLPs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_s2ca.architecture.attention import ChannelAttention, SpatialAttention
from nnunetv2_s2ca.architecture.blocks import PointwiseConv3d, ResidualBlock, concatenate
from nnunetv2_s2ca.architecture.planes import (
    AXES,
    Mlp,
    PointwiseConv2d,
    axes_by_plane,
    fold_into_batch,
    unfold_from_batch,
)
from nnunetv2_s2ca.architecture.recomputing import bytes_of_branch, recomputed

EMBED_DIM = 128
DEPTH = 4
SHIFT_GROUPS = 5
MAX_DROP_PATH = 0.1


def shift(x: Tensor, axis: int, *, reverse: bool = False) -> Tensor:
    """Move groups of channels of (B, C, H, W) along an axis, zeros coming in.

    The channels are split into five groups as `torch.chunk` does; group i moves by i − 2 voxels
    toward the higher index, or toward the lower one if `reverse`. Lian et al., *AS-MLP: An Axial
    Shifted MLP Architecture for Vision*, ICLR 2022.

    Args:
        x: (B, C, H, W).
        axis: 2 to move along H, 3 along W.
        reverse: move the other way.
    """
    middle = SHIFT_GROUPS // 2
    moved = []
    for i, group in enumerate(x.chunk(SHIFT_GROUPS, dim=1)):
        distance = (middle - i) if reverse else (i - middle)
        if abs(distance) >= x.shape[axis]:  # all of it leaves; F.pad refuses to crop so much
            moved.append(torch.zeros_like(group))
            continue
        # F.pad fills the last axis first; a negative pad crops
        padding = (distance, -distance) if axis == 3 else (0, 0, distance, -distance)
        moved.append(F.pad(group, padding))
    return torch.cat(moved, dim=1)


class AxialShift(nn.Module):
    """Mix the tokens of (B, C, H, W) along both axes, one after the other, by shifts."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv_in = PointwiseConv2d(channels, channels)
        self.norm_in = nn.GroupNorm(1, channels)
        self.conv_width_first = PointwiseConv2d(channels, channels)
        self.conv_height_first = PointwiseConv2d(channels, channels)
        self.norm_out = nn.GroupNorm(1, channels)
        self.conv_out = PointwiseConv2d(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm_in(self.conv_in(x)))
        width = shift(x, 3)
        width_height = shift(width, 2)
        height = shift(x, 2)
        # the way back along the width is reversed in the authors' program
        height_width = shift(height, 3, reverse=True)
        mixed = (
            F.gelu(self.conv_width_first(width))
            + F.gelu(self.conv_width_first(width_height))
            + F.gelu(self.conv_height_first(height))
            + F.gelu(self.conv_height_first(height_width))
        )
        return self.conv_out(self.norm_out(mixed))


class AxialShiftBlock(nn.Module):
    """Axial shift and MLP on (B, C, H, W), each with norm, residual and stochastic depth."""

    def __init__(self, channels: int, *, drop_path: float):
        super().__init__()
        self.norm1 = nn.GroupNorm(1, channels)
        self.axial_shift = AxialShift(channels)
        self.norm2 = nn.GroupNorm(1, channels)
        self.mlp = Mlp(channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.axial_shift(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ShiftedMLP(nn.Module):
    """Volumetric axially shifted MLP (VAS-MLP): the same 2D MLP on every slice of three planes.

    Args:
        in_channels: channels of the input, (B, in_channels, H, W, D).
        out_channels: channels of the output, (B, out_channels, H, W, D).
        embed_dim: width of the blocks.
        depth: number of blocks.
        swap_axes: put the planes along W back with H and W exchanged, as the authors' program
            does. Their released weights were trained with it; it needs H = W.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        embed_dim: int = EMBED_DIM,
        depth: int = DEPTH,
        swap_axes: bool = False,
    ):
        super().__init__()
        rates = [MAX_DROP_PATH * i / max(depth - 1, 1) for i in range(depth)]
        self.embed = PointwiseConv2d(in_channels, embed_dim)
        self.norm = nn.GroupNorm(1, embed_dim)
        self.blocks = nn.Sequential(*(AxialShiftBlock(embed_dim, drop_path=rate) for rate in rates))
        self.project = PointwiseConv2d(embed_dim, in_channels)
        self.fuse = PointwiseConv3d(3 * in_channels, out_channels)
        self.swap_axes = swap_axes

    def forward(self, x: Tensor) -> Tensor:
        would_keep = bytes_of_branch(x, width=self.norm.num_channels, depth=len(self.blocks))
        volumes: dict[int, Tensor] = {}
        for axes in axes_by_plane(x.shape[2:]):
            made = recomputed(self._planes, x, axes, would_keep=would_keep)
            volumes |= zip(axes, made, strict=True)
        if self.swap_axes:
            volumes[1] = volumes[1].transpose(2, 3)
        return self.fuse(torch.cat([volumes[axis] for axis in AXES], dim=1))

    def _planes(self, x: Tensor, axes: Sequence[int]) -> list[Tensor]:
        """Fold each of some axes, whose planes have one size, into a volume each."""
        planes = self.blocks(self.norm(self.embed(fold_into_batch(x, axes))))
        return unfold_from_batch(self.project(planes), axes, length=x.shape[axes[0] + 2])


class MultiScaleContextAggregation(nn.Module):
    """Gather all four encoder levels at the coarsest one and mix them globally.

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
        z = self.channel_attention(concatenate(*gathered, levels[-1]))
        return levels[-1] + self.spatial_attention(self.local(z)) * self.shifted_mlp(z)


def _stride_to_bottom(strides: Sequence[Sequence[int]], level: int) -> tuple[int, ...]:
    return tuple(math.prod(axis) for axis in zip(*strides[level + 1 :], strict=True))
