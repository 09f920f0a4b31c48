"""Channel attention, spatial attention, and the attention gate of the skip connections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_s2ca.architecture.pointwise import PointwiseConv3d


class ChannelAttention(nn.Module):
    r"""Scale each channel of (B, C, …) by a gate from its global average (squeeze-excitation).

    .. math:: \mathrm{SE}(x) = x \cdot \sigma(W_2 \, \mathrm{ReLU}(W_1 \, \mathrm{mean}(x)))

    Hu et al., *Squeeze-and-Excitation Networks*, CVPR 2018. With `max_pool` the global maximum
    passes through the same layers and is added before the sigmoid, as in CBAM (Woo et al., *CBAM:
    Convolutional Block Attention Module*, ECCV 2018).

    Args:
        channels: C.
        reduction: the hidden layer has C // reduction units.
        max_pool: use the global maximum, too.

    Raises:
        ValueError: if fewer channels than `reduction` leave no hidden unit.
    """

    def __init__(self, channels: int, *, reduction: int = 16, max_pool: bool = False):
        super().__init__()
        if channels < reduction:
            raise ValueError(
                f"{channels} channels are too few for channel attention, which reduces them by "
                f"{reduction}; use wider stages or branches"
            )
        self.reduce = nn.Linear(channels, channels // reduction, bias=False)
        self.expand = nn.Linear(channels // reduction, channels, bias=False)
        self.max_pool = max_pool

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x).reshape(*x.shape[:2], *(1 for _ in x.shape[2:]))

    def gate(self, x: Tensor) -> Tensor:
        """The factors alone, (B, C)."""
        spatial = tuple(range(2, x.ndim))
        gate = self._excite(x.mean(spatial))
        if self.max_pool:
            gate = gate + self._excite(x.amax(spatial))
        return torch.sigmoid(gate)

    def _excite(self, pooled: Tensor) -> Tensor:
        return self.expand(F.relu(self.reduce(pooled)))


class SpatialAttention(nn.Module):
    r"""A map in (0, 1) of shape (B, 1, …) from the maximum and the mean over the channels.

    .. math:: A(x) = \sigma(W * [\max_c x, \mathrm{mean}_c \, x])

    Args:
        ndim: 2 or 3 spatial axes.
        kernel_size: odd size of the convolution over [max, mean].
    """

    def __init__(self, ndim: int, *, kernel_size: int):
        super().__init__()
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[ndim]
        self.conv = conv(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)
        return torch.sigmoid(self.conv(pooled))


class CBAM(nn.Module):
    r"""Channel attention, then 7×7 spatial attention, on (B, C, H, W).

    .. math:: \mathrm{CBAM}(x) = A(\mathrm{SE}(x)) \cdot \mathrm{SE}(x)

    Woo et al., *CBAM: Convolutional Block Attention Module*, ECCV 2018.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channel = ChannelAttention(channels, max_pool=True)
        self.spatial = SpatialAttention(2, kernel_size=7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.channel(x)
        return x * self.spatial(x)


class AttentionGate(nn.Module):
    r"""How relevant each place of a skip connection is to the coarser level, a map in (0, 1).

    .. math:: r = \sigma(\mathrm{BN}(W_\psi \, \mathrm{ReLU}(\mathrm{BN}(W_g g) +
        \mathrm{BN}(W_x x))))

    Oktay et al., *Attention U-Net*, MIDL 2018. The map has the coarser resolution; up-sampled, it
    is multiplied with the skip connection (`merge`).

    Args:
        gate_channels: channels of the gating signal, (B, gate_channels, H / stride, …).
        channels: channels of the skip connection, (B, channels, H, W, D).
        stride: stride from the skip connection's level to the gating signal's.
    """

    def __init__(self, gate_channels: int, channels: int, *, stride: Sequence[int]):
        super().__init__()
        self.gate = nn.Sequential(
            PointwiseConv3d(gate_channels, channels, bias=False), nn.BatchNorm3d(channels)
        )
        self.skip = nn.Sequential(
            PointwiseConv3d(channels, channels, stride=stride, bias=False),
            nn.BatchNorm3d(channels),
        )
        self.psi = nn.Sequential(PointwiseConv3d(channels, 1, bias=False), nn.BatchNorm3d(1))

    def forward(self, gate: Tensor, skip: Tensor) -> Tensor:
        """(B, 1, H / stride, …)."""
        return torch.sigmoid(self.psi(F.relu(self.gate(gate) + self.skip(skip))))
