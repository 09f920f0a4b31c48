"""The volumetric axially shifted MLP (VAS-MLP) of the bottleneck."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from dynamic_network_architectures.building_blocks.regularization import DropPath
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_s2ca.architecture.planes import fold_into_batch, on_planes, unfold_from_batch
from nnunetv2_s2ca.architecture.pointwise import Mlp, PointwiseConv2d, PointwiseConv3d
from nnunetv2_s2ca.architecture.recomputing import keep_little

EMBED_DIM = 128
DEPTH = 4
SHIFT_GROUPS = 5
MAX_DROP_PATH = 0.1
# Maps of its width that a block keeps for the backward pass; a test counts them.
KEPT_MAPS = 24


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
    # F.pad fills the last axis first
    padded = F.pad(x, (middle, middle) if axis == 3 else (0, 0, middle, middle))
    moved = []
    for i, group in enumerate(padded.chunk(SHIFT_GROUPS, dim=1)):
        distance = (middle - i) if reverse else (i - middle)
        moved.append(group.narrow(axis, middle - distance, x.shape[axis]))
    return torch.cat(moved, dim=1)


class AxialShift(nn.Module):
    r"""Mix the tokens of (B, C, H, W) along both axes, one after the other, by shifts.

    .. math::
        u &= \mathrm{GELU}(\mathrm{GN}(W_1 t)) \\
        v &= \mathrm{GELU}(P s_w u) + \mathrm{GELU}(P s_h s_w u) + \mathrm{GELU}(Q s_h u) +
        \mathrm{GELU}(Q s_w^{-1} s_h u) \\
        S(t) &= W_2 \, \mathrm{GN}(v)

    with shifts s along an axis. The way back along the width is reversed in the authors' program.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv_in = PointwiseConv2d(channels, channels)
        self.norm_in = nn.GroupNorm(1, channels)
        self.conv_width_first = PointwiseConv2d(channels, channels)
        self.conv_height_first = PointwiseConv2d(channels, channels)
        self.norm_out = nn.GroupNorm(1, channels)
        self.conv_out = PointwiseConv2d(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(_normalise(self.norm_in, self.conv_in(x)))
        width = shift(x, 3)
        width_height = shift(width, 2)
        height = shift(x, 2)
        height_width = shift(height, 3, reverse=True)
        mixed = (
            F.gelu(self.conv_width_first(width))
            + F.gelu(self.conv_width_first(width_height))
            + F.gelu(self.conv_height_first(height))
            + F.gelu(self.conv_height_first(height_width))
        )
        return self.conv_out(_normalise(self.norm_out, mixed))


def _normalise(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Group norm that keeps the dtype of x, where autocast would write fp32 to be copied back."""
    with torch.autocast(x.device.type, enabled=False):
        weight, bias = norm.weight.to(x.dtype), norm.bias.to(x.dtype)
        return F.group_norm(x, norm.num_groups, weight, bias, norm.eps)


class AxialShiftBlock(nn.Module):
    r"""Axial shift and MLP, each with norm, residual and stochastic depth (EAS-MLP).

    .. math::
        t' &= t + \mathrm{DropPath}(S(\mathrm{GN}(t))) \\
        t'' &= t' + \mathrm{DropPath}(\mathrm{MLP}(\mathrm{GN}(t')))

    for t of (B, C, H, W).
    """

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
    r"""Volumetric axially shifted MLP (VAS-MLP): the same 2D MLP on every slice of three planes.

    .. math::
        P_a(z) &= \mathrm{unfold}_a(W_p B_N(\dots B_1(\mathrm{GN}(W_e \, \mathrm{fold}_a(z))))) \\
        V(z) &= W_f \, [P_H(z), P_W(z), P_D(z)]

    with the blocks B.

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
        # every voxel is a pixel of three planes
        kept = KEPT_MAPS * len(self.blocks) * self.norm.num_channels * 3 * x[0, 0].numel()
        return keep_little(self._mix, x, kept_values=kept)

    def _mix(self, x: Tensor) -> Tensor:
        volumes = on_planes(self._planes, x)
        if self.swap_axes:
            volumes[1] = volumes[1].transpose(2, 3)
        return self.fuse(torch.cat(volumes, dim=1))

    def _planes(self, x: Tensor, axes: Sequence[int]) -> list[Tensor]:
        """Map each of some axes, whose planes have one size."""
        planes = self.blocks(self.norm(self.embed(fold_into_batch(x, axes))))
        return unfold_from_batch(self.project(planes), axes, length=x.shape[axes[0] + 2])
