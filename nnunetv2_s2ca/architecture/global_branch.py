"""The global branch of the local-global synergic module (LGSM): ConvFormer on three planes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunetv2_s2ca.architecture.attention import CBAM
from nnunetv2_s2ca.architecture.planes import (
    fold_into_channels,
    on_planes,
    unfold_from_channels,
)
from nnunetv2_s2ca.architecture.pointwise import Mlp, PointwiseConv2d, PointwiseConv3d
from nnunetv2_s2ca.architecture.recomputing import keep_little

LAYER_SCALE_INIT = 1e-5
TRUNCATED_NORMAL_STD = 0.02
# Maps of its width that a block keeps for the backward pass; a test counts them.
KEPT_MAPS = 17


class LayerScale2d(nn.Module):
    """A learned factor for each channel of (B, C, H, W).

    Touvron et al., *Going deeper with Image Transformers*, ICCV 2021. Named as timm's, whose import
    would cost every command more time than these lines.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), LAYER_SCALE_INIT))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.reshape(-1, 1, 1)


class ConvFormerBlock(nn.Module):
    r"""A MetaFormer block on (B, C, H, W) whose token mixer is CBAM and a pointwise convolution.

    .. math::
        t' &= t + a \odot W \, \mathrm{CBAM}(\mathrm{GN}(t)) \\
        t'' &= t' + b \odot \mathrm{MLP}(\mathrm{GN}(t'))

    with one factor a channel in a and b. Yu et al., *MetaFormer is Actually What You Need for
    Vision*, CVPR 2022.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(1, channels)
        self.token_mixer = nn.Sequential(CBAM(channels), PointwiseConv2d(channels, channels))
        self.layer_scale1 = LayerScale2d(channels)
        self.norm2 = nn.GroupNorm(1, channels)
        self.mlp = Mlp(channels)
        self.layer_scale2 = LayerScale2d(channels)
        attention = self.token_mixer[0].channel
        for layer in (self.mlp.fc1, self.mlp.fc2, attention.reduce, attention.expand):
            nn.init.trunc_normal_(layer.weight, std=TRUNCATED_NORMAL_STD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.layer_scale1(self.token_mixer(self.norm1(x)))
        return x + self.layer_scale2(self.mlp(self.norm2(x)))


class GlobalBranch(nn.Module):
    r"""See each of the three planes as one image whose channels hold the folded axis.

    .. math::
        P_a(x) &= \mathrm{unfold}_a(E_L W_p \, \mathrm{GN}(C_N(\dots C_1(W_e S_L \,
        \mathrm{fold}_a(x))))) \\
        G(x) &= W_f \, [P_H(x), P_W(x), P_D(x)]

    with ConvFormer blocks C and pointwise convolutions S, E, W. The three planes share all weights,
    but for the projections S and E between C·L and C channels, which depend on the length L of the
    folded axis: axes of one length share a pair of projections.

    Args:
        in_channels: channels of the input, (B, in_channels, *map_size).
        out_channels: channels of the output, (B, out_channels, *map_size).
        map_size: spatial size (H, W, D) of the map; the weights are tied to it.
        embed_dim: width of the ConvFormer blocks.
        depth: number of ConvFormer blocks.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        map_size: Sequence[int],
        embed_dim: int,
        depth: int,
    ):
        super().__init__()
        lengths = sorted(set(map_size))
        self.squeeze = nn.ModuleDict(
            {str(n): PointwiseConv2d(in_channels * n, in_channels) for n in lengths}
        )
        self.embed = PointwiseConv2d(in_channels, embed_dim)
        self.blocks = nn.Sequential(*(ConvFormerBlock(embed_dim) for _ in range(depth)))
        self.norm = nn.GroupNorm(1, embed_dim)
        self.project = PointwiseConv2d(embed_dim, in_channels)
        self.expand = nn.ModuleDict(
            {str(n): PointwiseConv2d(in_channels, in_channels * n) for n in lengths}
        )
        self.fuse = PointwiseConv3d(3 * in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        pixels = sum(x[0, 0].numel() // length for length in x.shape[2:])
        kept = KEPT_MAPS * len(self.blocks) * self.norm.num_channels * pixels
        return keep_little(self._mix, x, kept_values=kept)

    def _mix(self, x: Tensor) -> Tensor:
        return self.fuse(torch.cat(on_planes(self._planes, x), dim=1))

    def _planes(self, x: Tensor, axes: Sequence[int]) -> list[Tensor]:
        """Map each of some axes, whose planes have one size."""
        length = x.shape[axes[0] + 2]
        planes = self.squeeze[str(length)](fold_into_channels(x, axes))
        planes = self.project(self.norm(self.blocks(self.embed(planes))))
        return unfold_from_channels(self.expand[str(length)](planes), axes, length=length)
