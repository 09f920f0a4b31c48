"""Deformable 3×3×3 convolution with spatially attended offsets (ADC)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_s2ca.architecture import fused
from nnunetv2_s2ca.architecture.attention import SpatialAttention
from nnunetv2_s2ca.architecture.pointwise import PointwiseConv3d, pointwise

TAPS = 27  # (−1, 0, 1)³, H slowest


def deform_conv3d(
    x: Tensor, offset: Tensor, weight: Tensor, attention: Tensor | None = None
) -> Tensor:
    r"""Convolve with a 3×3×3 kernel whose taps are moved by an offset of their own at each voxel.

    .. math:: y_o(v) = \sum_{c, n} w_{o, 27 c + n} \, x_c(v + t_n + a(v) \Delta_n(v))

    with x interpolated trilinearly and zero outside the volume. A coordinate p below 0 or above
    L − 1, on an axis of L voxels, is replaced by floor(p) and passes no gradient, so that the
    last layer of voxels reaches one voxel further out; Zhou et al., IEEE TMI 2024, as released.

    Positions and samples are in fp32 at least, under autocast, too, since half precision cannot
    hold a voxel's index and a fraction of it. Half-precision offsets become positions in a single
    pass.

    Args:
        x: (B, C, H, W, D).
        offset: (B, 81, H, W, D) in voxels: 27 along H, then 27 along W, then 27 along D.
        weight: (O, C · 27), index c · 27 + n.
        attention: (B, 1, H, W, D), by which a voxel's offsets are multiplied; 1 if None.

    Returns:
        (B, O, H, W, D) of x's dtype.
    """
    if fused.sampling_has_kernel(x, offset, weight):
        return fused.sample_by_kernel(x, offset, weight, attention)
    dtype = torch.promote_types(x.dtype, torch.float32)
    convolve = fused.deform_conv if fused.sampling_is_fused(x, taps=TAPS) else deform_conv3d_formula
    with torch.autocast(x.device.type, enabled=False):
        return convolve(x.to(dtype), offset, weight.to(dtype), attention).to(x.dtype)


def deform_conv3d_formula(
    x: Tensor, offset: Tensor, weight: Tensor, attention: Tensor | None = None
) -> Tensor:
    """`deform_conv3d` in plain PyTorch, all taps at once, in the dtype of x and the weight."""
    if attention is not None:
        offset = offset * attention
    samples = F.grid_sample(x, _grid(offset, x.dtype).flatten(1, 2), align_corners=False)
    columns = samples.unflatten(2, (TAPS, -1)).flatten(1, 2)  # (B, C · 27, H, W, D)
    return pointwise(columns, weight)


def _grid(offset: Tensor, dtype: torch.dtype) -> Tensor:
    """Where the taps sample, in `grid_sample`'s coordinates: (B, 81, H, W, D) → (B, 27, …, 3)."""
    axes = []
    for axis, moves in enumerate(offset.unflatten(1, (3, 3, 3, 3)).unbind(1)):
        # moves is (B, 3, 3, 3, H, W, D): three axes of taps, three of voxels
        length = moves.shape[axis + 4]
        taps = _range(-1, 2, axis + 1, ndim=moves.ndim, like=offset, dtype=dtype)
        voxels = _range(0, length, axis + 4, ndim=moves.ndim, like=offset, dtype=dtype)
        position = moves + (taps + voxels)
        outside = (position < 0) | (position > length - 1)
        position = torch.where(outside, position.detach().floor(), position)
        # voxel centres, which also hold for an axis of one voxel
        first = torch.full((), (1 - length) / length, dtype=dtype, device=offset.device)
        axes.append(torch.add(first, position, alpha=2 / length))
    # grid_sample names the last axis first
    return torch.stack(axes[::-1], dim=-1).flatten(1, 3)


def _range(
    start: int, stop: int, axis: int, *, ndim: int, like: Tensor, dtype: torch.dtype
) -> Tensor:
    """Whole numbers along one of `ndim` axes, made on the device of a tensor."""
    numbers = torch.arange(start, stop, dtype=dtype, device=like.device)
    return numbers.reshape([-1 if other == axis else 1 for other in range(ndim)])


class DeformConv3d(nn.Module):
    r"""Deformable convolution that predicts its offsets, and attends to where they matter (ADC).

    .. math::
        r &= W_r x \\
        o &= W_o * r \\
        \Delta &= o \cdot \sigma(W_a * [\max_c o, \mathrm{mean}_c\, o]) \\
        y(v) &= \sum_n W_n \, r(v + t_n + \Delta_n(v))

    Args:
        channels: channels of input and output, (B, channels, H, W, D).
        reduced_channels: channels to which the input is reduced before it is sampled.
    """

    def __init__(self, channels: int, *, reduced_channels: int):
        super().__init__()
        self.reduce = PointwiseConv3d(channels, reduced_channels, bias=False)
        self.offset = nn.Conv3d(reduced_channels, 3 * TAPS, 3, padding=1, bias=False)
        self.spatial_attention = SpatialAttention(3, kernel_size=7)
        self.kernel = nn.Conv3d(reduced_channels * TAPS, channels, 1, bias=False)

    def forward(self, x: Tensor, *, scale: Tensor | None = None) -> Tensor:
        """Convolve x, whose channels are multiplied by a scale (B, channels) first, if given."""
        weight = self.reduce.weight.flatten(1)
        reduced = pointwise(x, weight if scale is None else weight * scale[:, None])
        offset = self.offset(reduced)
        attention = self.spatial_attention(offset)
        return deform_conv3d(reduced, offset, self.kernel.weight.flatten(1), attention)
