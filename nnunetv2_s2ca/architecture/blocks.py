"""Residual blocks of depthwise separable convolutions, the local branch of every level."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunetv2_s2ca.architecture.compiling import written_out_for_compiler
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
        return self._compute(x, with_stem=False)[0]

    def forward_with_stem(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the block's output and its stem feature, the output of the first unit."""
        out, stem = self._compute(x, with_stem=True)
        assert stem is not None
        return out, stem

    def _compute(self, x: Tensor, *, with_stem: bool) -> tuple[Tensor, Tensor | None]:
        if written_out_for_compiler(x):
            stem = self.unit1(x)
            return self.act(self.unit2(stem) + self.shortcut(x)), stem
        return residual_block(
            x,
            self.unit1.weights(),
            self.unit2.weights(),
            shortcut=self.shortcut[0].weight if isinstance(self.shortcut, nn.Sequential) else None,
            slope=self.act.weight,
            stride=self.unit1.depthwise.stride,
            with_stem=with_stem,
        )


def concatenate(*maps: Tensor) -> Tensor:
    """Concatenate maps (B, C_i, …) along the channels."""
    return torch.cat(maps, dim=1)
