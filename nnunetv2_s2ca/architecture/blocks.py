"""Residual blocks of depthwise separable convolutions, the local branch of every level.

And what the levels have in common besides: pointwise convolution, up-sampling, concatenation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_s2ca.architecture.paths import layer_by_layer, merged_as_a_whole
from nnunetv2_s2ca.architecture.tiled_block import UnitWeights, residual_block


class ConvUnit(nn.Module):
    """Depthwise 3×3×3 convolution, pointwise convolution, instance norm, PReLU.

    Args:
        in_channels: channels of the input, (B, in_channels, H, W, D).
        out_channels: channels of the output.
        stride: stride of the depthwise convolution on H, W, D.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: Sequence[int]):
        super().__init__()
        self.depthwise = nn.Conv3d(
            in_channels,
            in_channels,
            3,
            stride=tuple(stride),
            padding=1,
            groups=in_channels,
            bias=False,
        )
        self.pointwise = nn.Conv3d(in_channels, out_channels, 1)
        self.norm = nn.InstanceNorm3d(out_channels)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.pointwise(self.depthwise(x))))

    def weights(self) -> UnitWeights:
        return UnitWeights(
            self.depthwise.weight, self.pointwise.weight, self.pointwise.bias, self.act.weight
        )


class ResidualBlock(nn.Module):
    """Two convolution units with a shortcut, and a PReLU on their sum.

    The shortcut is the identity, or a strided pointwise convolution with instance norm where the
    block changes the channels or the resolution.

    Args:
        in_channels: channels of the input, (B, in_channels, H, W, D).
        out_channels: channels of the output, (B, out_channels, H / stride, …).
        stride: stride of the first unit and of the shortcut on H, W, D.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: Sequence[int] = (1, 1, 1)):
        super().__init__()
        stride = tuple(stride)
        self.unit1 = ConvUnit(in_channels, out_channels, stride=stride)
        self.unit2 = ConvUnit(out_channels, out_channels, stride=(1, 1, 1))
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or stride != (1, 1, 1):
            self.shortcut = nn.Sequential(
                nn.Conv3d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.InstanceNorm3d(out_channels),
            )
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self._compute([x], with_stem=False)[0]

    def forward_with_stem(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the block's output and its stem feature, the output of the first unit."""
        out, stem = self._compute([x], with_stem=True)
        assert stem is not None
        return out, stem

    def forward_merged(self, skip: Tensor, relevance: Tensor, below: Tensor) -> Tensor:
        """The block of `merge(skip, relevance, below)`, which is not made as a whole."""
        return self._compute([skip, relevance, below], with_stem=False)[0]

    def _compute(self, maps: Sequence[Tensor], *, with_stem: bool) -> tuple[Tensor, Tensor | None]:
        if len(maps) > 1 and merged_as_a_whole(maps):
            maps = [merge(*maps)]
        if len(maps) == 1 and layer_by_layer(maps[0]):
            (x,) = maps
            stem = self.unit1(x)
            return self.act(self.unit2(stem) + self.shortcut(x)), stem
        return residual_block(
            maps,
            self.unit1.weights(),
            self.unit2.weights(),
            shortcut=self.shortcut[0].weight if isinstance(self.shortcut, nn.Sequential) else None,
            slope=self.act.weight,
            stride=self.unit1.depthwise.stride,
            with_stem=with_stem,
        )


class PointwiseConv3d(nn.Conv3d):
    """1×1×1 convolution of (B, in_channels, H, W, D), as the matrix product that it is.

    In channels-last layout that is several times as fast on a processor as the convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: Sequence[int] = (1, 1, 1),
        bias: bool = True,
    ):
        super().__init__(in_channels, out_channels, 1, stride=tuple(stride), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        h, w, d = self.stride
        seen = x.permute(0, 2, 3, 4, 1)[:, ::h, ::w, ::d]
        return F.linear(seen, self.weight.flatten(1), self.bias).permute(0, 4, 1, 2, 3)


def upsample(x: Tensor, size: Sequence[int]) -> Tensor:
    """Up-sample (B, C, …) trilinearly to a spatial `size`, with align_corners=False."""
    return F.interpolate(x, size=tuple(size), mode="trilinear", align_corners=False)


def merge(skip: Tensor, relevance: Tensor, below: Tensor) -> Tensor:
    """Put a gated skip connection and the up-sampled map of the level below side by side.

    Args:
        skip: (B, C, H, W, D).
        relevance: (B, 1, H / s, …), the map in (0, 1) by which the skip connection is weighed.
        below: (B, C', H / s, …).

    Returns:
        [skip · up(relevance), up(below)], (B, C + C', H, W, D).
    """
    size = skip.shape[2:]
    return concatenate(skip * upsample(relevance, size), upsample(below, size))


def concatenate(*maps: Tensor) -> Tensor:
    """Concatenate maps (B, C_i, …) along the channels."""
    return torch.cat(maps, dim=1)
