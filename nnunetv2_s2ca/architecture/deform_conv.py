"""Deformable 3×3×3 convolution with spatially attended offsets (ADC)."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_s2ca.architecture.attention import SpatialAttention

# The 27 taps of the kernel in voxels, H slowest.
TAPS = tuple(itertools.product((-1.0, 0.0, 1.0), repeat=3))


def deform_conv3d(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    r"""Convolve with a 3×3×3 kernel whose taps are moved by an offset of their own at each voxel.

    .. math:: y_o(v) = \sum_{c, n} w_{o, 27 c + n} \, x_c(v + t_n + \Delta_n(v))

    with x interpolated trilinearly and zero outside the volume. A coordinate p below 0 or above
    L − 1, on an axis of L voxels, is replaced by floor(p) and passes no gradient, so that the
    last layer of voxels reaches one voxel further out; Zhou et al., IEEE TMI 2024, as released.

    Args:
        x: (B, C, H, W, D).
        offset: (B, 81, H, W, D) in voxels: 27 along H, then 27 along W, then 27 along D.
        weight: (O, C · 27), index c · 27 + n.

    Returns:
        (B, O, H, W, D).
    """
    return torch.stack([_deform_conv_one(*pair, weight) for pair in zip(x, offset, strict=True)])


def _deform_conv_one(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    taps = len(TAPS)
    size = x.shape[1:]
    grid = _sampling_grid(offset.unflatten(0, (3, taps)))
    # one tap a batch entry: grid_sample runs them in parallel, and `expand` copies nothing
    values = F.grid_sample(
        x.to(grid.dtype).expand(taps, *x.shape), grid, padding_mode="zeros", align_corners=False
    )
    weight = weight.unflatten(1, (-1, taps)).transpose(1, 2).flatten(1)
    return (weight @ values.to(weight.dtype).reshape(weight.shape[1], -1)).unflatten(1, size)


def _sampling_grid(offset: Tensor) -> Tensor:
    """Offsets (3, 27, H, W, D) in voxels → where grid_sample shall look, (27, H, W, D, 3)."""
    # half precision cannot hold a voxel's index and a fraction of it
    dtype = torch.promote_types(offset.dtype, torch.float32)
    taps = torch.tensor(TAPS, dtype=dtype, device=offset.device)
    axes = []
    for axis, length in enumerate(offset.shape[2:]):
        index = torch.arange(length, dtype=dtype, device=offset.device)
        index = index.reshape([-1 if other == axis else 1 for other in range(3)])
        position = offset[axis] + (taps[:, axis].reshape(-1, 1, 1, 1) + index)
        inside = (position >= 0) & (position <= length - 1)
        position = torch.where(inside, position, position.floor())
        # voxel centres in grid_sample's coordinates, which also hold for an axis of one voxel
        axes.append((position * 2 + (1 - length)) / length)
    # grid_sample names the last axis first
    return torch.stack(axes[::-1], dim=-1)


class DeformConv3d(nn.Module):
    """Deformable convolution that predicts its offsets, and attends to where they matter (ADC).

    Args:
        channels: channels of input and output, (B, channels, H, W, D).
        reduced_channels: channels to which the input is reduced before it is sampled.
    """

    def __init__(self, channels: int, *, reduced_channels: int):
        super().__init__()
        taps = len(TAPS)
        self.reduce = nn.Conv3d(channels, reduced_channels, 1, bias=False)
        self.offset = nn.Conv3d(reduced_channels, 3 * taps, 3, padding=1, bias=False)
        self.spatial_attention = SpatialAttention(3, kernel_size=7)
        self.kernel = nn.Conv3d(reduced_channels * taps, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        offset = self.offset(reduced)
        offset = offset * self.spatial_attention(offset)
        return deform_conv3d(reduced, offset, self.kernel.weight.flatten(1))
