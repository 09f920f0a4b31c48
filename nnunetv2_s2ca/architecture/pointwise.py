"""Pointwise convolutions, as the matrix products that they are, and the MLP made of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_s2ca.architecture import fused


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve (B, C, …) with a kernel of one voxel, (O, C), to (B, O, …).

    The kernel may be another for each sample, (B, O, C). Channels stay last on processors and first
    elsewhere, so that nothing is copied.
    """
    size, weights = x.shape[2:], weight.expand(len(x), *weight.shape[-2:])
    if fused.on_processor(x):
        rows = x.movedim(1, -1).flatten(1, -2)
        return torch.bmm(rows, weights.mT).unflatten(1, size).movedim(-1, 1)
    return torch.bmm(weights, x.flatten(2)).unflatten(2, size)


def _product(x: Tensor, conv: nn.Conv2d | nn.Conv3d) -> Tensor:
    """A pointwise convolution as one product for the whole batch, channels last.

    On a processor that takes a fraction of the time of PyTorch's convolution.
    """
    return F.linear(x.movedim(1, -1), conv.weight.flatten(1), conv.bias).movedim(-1, 1)


class PointwiseConv2d(nn.Conv2d):
    """1×1 convolution of (B, in_channels, H, W)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        if not fused.on_processor(x):
            return super().forward(x)
        return _product(x, self)


class PointwiseConv3d(nn.Conv3d):
    """1×1×1 convolution of (B, in_channels, H, W, D)."""

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
        if not fused.on_processor(x):
            return super().forward(x)
        h, w, d = self.stride
        return _product(x[:, :, ::h, ::w, ::d], self)


class Mlp(nn.Module):
    r"""Two pointwise convolutions of (B, channels, H, W) with GELU in between.

    .. math:: \mathrm{MLP}(t) = W_2 \, \mathrm{GELU}(W_1 t)

    with four times the channels in between.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = PointwiseConv2d(channels, 4 * channels)
        self.fc2 = PointwiseConv2d(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))
