"""Pointwise convolutions, as the matrix products that they are, and the MLP made of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_s2ca.architecture import fused


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve (B, C, …) with a kernel of one voxel, (O, C), to (B, O, …).

    In the layout that is fast on the device: channels-last on processors, where one product for the
    whole batch takes a fraction of the time of PyTorch's convolution; channels first elsewhere.
    """
    if fused.on_processor(x):
        return F.linear(x.movedim(1, -1), weight, bias).movedim(-1, 1)
    out = torch.matmul(weight, x.flatten(2))
    if bias is not None:
        out = out + bias.to(out.dtype)[:, None]
    return out.unflatten(2, x.shape[2:])


class PointwiseConv2d(nn.Conv2d):
    """1×1 convolution of (B, in_channels, H, W)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return pointwise(x, self.weight.flatten(1), self.bias)


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
        h, w, d = self.stride
        return pointwise(x[:, :, ::h, ::w, ::d], self.weight.flatten(1), self.bias)


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
