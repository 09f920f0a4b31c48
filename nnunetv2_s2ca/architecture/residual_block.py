"""Residual blocks of depthwise separable convolutions, the local branch of every level."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_s2ca.architecture import fused
from nnunetv2_s2ca.architecture.merging import merge


class ConvUnit(nn.Module):
    r"""Depthwise 3×3×3 convolution, pointwise convolution, instance norm, PReLU.

    .. math:: U(x) = \mathrm{PReLU}(\mathrm{IN}(W_p (W_d * x) + b))

    Args:
        in_channels: channels of the input, (B, in_channels, H, W, D).
        out_channels: channels of the output, (B, out_channels, H / stride, …).
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
        # The norm cancels the bias, which would be a pass over the map. It only has to have a
        # gradient, of zero, for data-parallel training.
        kernel, bias = self.pointwise.weight, self.pointwise.bias
        assert bias is not None
        kernel = torch.add(kernel, bias.reshape(-1, 1, 1, 1, 1), alpha=0)
        return self.act(self.norm(F.conv3d(self.depthwise(x), kernel)))

    def weights(self) -> fused.UnitWeights:
        """The weights for the fast form."""
        return fused.UnitWeights(
            self.depthwise.weight, self.pointwise.weight, self.pointwise.bias, self.act.weight
        )


class ResidualBlock(nn.Module):
    r"""Two convolution units with a shortcut, and a PReLU on their sum.

    .. math:: R(x) = \mathrm{PReLU}(U_2(U_1(x)) + S(x))

    The shortcut S is the identity, or a strided pointwise convolution with instance norm where the
    block changes the channels or the resolution. The stem feature is :math:`U_1(x)`.

    Args:
        in_channels: channels of the input, (B, in_channels, H, W, D).
        out_channels: channels of the output, (B, out_channels, H / stride, …).
        stride: stride of the first unit and of the shortcut on H, W, D.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: Sequence[int] = (1, 1, 1)):
        super().__init__()
        self.stride = tuple(stride)
        self.unit1 = ConvUnit(in_channels, out_channels, stride=stride)
        self.unit2 = ConvUnit(out_channels, out_channels, stride=(1, 1, 1))
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or self.stride != (1, 1, 1):
            self.shortcut = nn.Sequential(
                nn.Conv3d(in_channels, out_channels, 1, stride=self.stride, bias=False),
                nn.InstanceNorm3d(out_channels),
            )
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        if fused.block_is_fused(x):
            return self._fused(fused.InputMaps(x))[0]
        return self.formula(x)[0]

    def forward_with_stem(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the block's output and its stem feature."""
        if fused.block_is_fused(x):
            out, stem = self._fused(fused.InputMaps(x), with_stem=True)
            return out, stem
        return self.formula(x)

    def forward_merged(self, skip: Tensor, relevance: Tensor, below: Tensor) -> Tensor:
        """The block of `merge(skip, relevance, below)`."""
        if fused.merging_is_fused(skip, below):
            return self._fused(fused.InputMaps(skip, relevance, below))[0]
        return self(merge(skip, relevance, below))

    def formula(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output and its stem feature, layer by layer."""
        stem = self.unit1(x)
        return self.act(self.unit2(stem).add_(self.shortcut(x))), stem

    def _fused(self, maps: fused.InputMaps, *, with_stem: bool = False) -> list[Tensor]:
        weights = fused.BlockWeights(
            self.unit1.weights(),
            self.unit2.weights(),
            self.shortcut[0].weight if isinstance(self.shortcut, nn.Sequential) else None,
            self.act.weight,
        )
        return fused.residual_block(maps, weights, stride=self.stride, with_stem=with_stem)
