"""Deformable 3×3×3 convolution with spatially attended offsets (ADC)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nnunetv2_s2ca.architecture.attention import SpatialAttention
from nnunetv2_s2ca.architecture.blocks import PointwiseConv3d
from nnunetv2_s2ca.architecture.paths import sampled_at_once, written_out_for_compiler

# The 27 taps of the kernel in voxels, H slowest.
TAPS = tuple(itertools.product((-1.0, 0.0, 1.0), repeat=3))
# How many of them are sampled before they are added up.
TAPS_AT_ONCE = 9


def deform_conv3d(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    r"""Convolve with a 3×3×3 kernel whose taps are moved by an offset of their own at each voxel.

    .. math:: y_o(v) = \sum_{c, n} w_{o, 27 c + n} \, x_c(v + t_n + \Delta_n(v))

    with x interpolated trilinearly and zero outside the volume. A coordinate p below 0 or above
    L − 1, on an axis of L voxels, is replaced by floor(p) and passes no gradient, so that the
    last layer of voxels reaches one voxel further out; Zhou et al., IEEE TMI 2024, as released.

    The taps are sampled a few at a time and added up, and sampled again in the backward pass: all
    C · 27 values of a voxel never exist together. It computes in fp32 at least, under autocast,
    too, since half precision cannot hold a voxel's index and a fraction of it.

    Args:
        x: (B, C, H, W, D).
        offset: (B, 81, H, W, D) in voxels: 27 along H, then 27 along W, then 27 along D.
        weight: (O, C · 27), index c · 27 + n.

    Returns:
        (B, O, H, W, D), channels-last, of x's dtype.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    taps_weight = weight.to(dtype).unflatten(1, (-1, len(TAPS)))
    convolve = _DeformConv.apply
    if sampled_at_once(x, taps=len(TAPS)):
        convolve = _convolve_at_once
    elif torch.compiler.is_compiling():
        convolve = _convolve if written_out_for_compiler(x) else _opaque_convolve
    with torch.autocast(x.device.type, enabled=False):
        samples = [
            convolve(volume, moves.unflatten(0, (3, len(TAPS))), taps_weight)
            for volume, moves in zip(x.to(dtype), offset.to(dtype), strict=True)
        ]
    return torch.stack(samples).permute(0, 4, 1, 2, 3).to(x.dtype)


def _convolve(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """One sample: (C, H, W, D), (3, 27, H, W, D), (O, C, 27) → (H, W, D, O)."""
    out = x.new_zeros(x[0].numel(), len(weight))
    for taps in _tap_blocks():
        values = _sample(x, offset[:, taps], taps)
        out = out.addmm(values.flatten(2).flatten(0, 1).T, _block_of(weight, taps).T)
    return out.unflatten(0, x.shape[1:])


def _convolve_at_once(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """`_convolve` with all taps sampled together, which autograd keeps."""
    values = _sample(x, offset, slice(None)).flatten(2).flatten(0, 1)
    return (values.T @ _block_of(weight, slice(None)).T).unflatten(0, x.shape[1:])


def _forward(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """`_convolve` in place."""
    out = x.new_zeros(x[0].numel(), len(weight))
    for taps in _tap_blocks():
        values = _sample(x, offset[:, taps], taps)
        out.addmm_(values.flatten(2).flatten(0, 1).T, _block_of(weight, taps).T)
    return out.unflatten(0, x.shape[1:])


def _backward(
    x: Tensor, offset: Tensor, weight: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `_forward`'s arguments; the taps are sampled again."""
    grad = grad.flatten(0, 2)
    grad_x, grad_offset = torch.zeros_like(x), torch.empty_like(offset)
    grad_weight = torch.empty_like(weight)
    for taps in _tap_blocks():
        grid, moving = _grid(offset[:, taps], taps)
        volumes = x.expand(len(grid), *x.shape)
        values = F.grid_sample(volumes, grid, align_corners=False)
        flat = values.flatten(2).flatten(0, 1)
        grad_weight[..., taps] = (flat @ grad).unflatten(0, values.shape[:2]).permute(2, 1, 0)
        grad_values = (_block_of(weight, taps).T @ grad.T).view_as(values)
        # not by autograd, which does not run inside an operation; trilinear, zero outside
        grad_volumes, grad_grid = torch.ops.aten.grid_sampler_3d_backward(
            grad_values, volumes, grid, 0, 0, False, (True, True)
        )
        grad_x += grad_volumes.sum(0)
        for axis, length in enumerate(x.shape[1:]):
            grad_offset[axis, taps] = grad_grid[..., 2 - axis] * moving[axis] * (2 / length)
    return grad_x, grad_offset, grad_weight


class _DeformConv(torch.autograd.Function):
    """`_forward`, which keeps its arguments only, and `_backward`, for eager mode."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, offset, weight)
        return _forward(x, offset, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, offset, weight = ctx.saved_tensors
        return _backward(x, offset, weight, grad)


# The same as one operation into which `torch.compile` does not look.


@torch.library.custom_op(
    "s2ca::deform_conv",
    mutates_args=(),
    schema="(Tensor x, Tensor offset, Tensor weight) -> Tensor",
)
def _opaque_convolve(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    return _forward(x, offset, weight)


@_opaque_convolve.register_fake
def _(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(*x.shape[1:], len(weight))


@torch.library.custom_op(
    "s2ca::deform_conv_backward",
    mutates_args=(),
    schema="(Tensor x, Tensor offset, Tensor weight, Tensor grad) -> (Tensor, Tensor, Tensor)",
)
def _opaque_backward(
    x: Tensor, offset: Tensor, weight: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return _backward(x, offset, weight, grad)


@_opaque_backward.register_fake
def _(x: Tensor, offset: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(offset), torch.empty_like(weight)


def _keep_arguments(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward_of_opaque(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _opaque_backward(*ctx.saved_tensors, grad)


_opaque_convolve.register_autograd(_backward_of_opaque, setup_context=_keep_arguments)


def _tap_blocks() -> Iterator[slice]:
    return (slice(lo, lo + TAPS_AT_ONCE) for lo in range(0, len(TAPS), TAPS_AT_ONCE))


def _block_of(weight: Tensor, taps: slice) -> Tensor:
    """(O, C, 27) → (O, n · C) for n of the taps."""
    return weight[..., taps].transpose(1, 2).flatten(1)


def _sample(x: Tensor, offset: Tensor, taps: slice) -> Tensor:
    """Sample (C, H, W, D) at offsets (3, n, H, W, D) from n of the taps → (n, C, H, W, D)."""
    grid, _ = _grid(offset, taps)
    # one tap a batch entry: grid_sample runs them in parallel, and `expand` copies nothing
    return F.grid_sample(x.expand(len(grid), *x.shape), grid, align_corners=False)


def _grid(offset: Tensor, taps: slice) -> tuple[Tensor, list[Tensor]]:
    """Positions for `grid_sample`, (n, H, W, D, 3), and by axis where the offset moves them."""
    size = offset.shape[2:]
    centres = torch.tensor(TAPS[taps], dtype=offset.dtype, device=offset.device)
    axes, moving = [], []
    for axis, length in enumerate(size):
        index = torch.arange(length, dtype=offset.dtype, device=offset.device)
        index = index.reshape([-1 if other == axis else 1 for other in range(3)])
        position = offset[axis] + (centres[:, axis].reshape(-1, 1, 1, 1) + index)
        inside = (position >= 0) & (position <= length - 1)
        position = torch.where(inside, position, position.floor())
        # voxel centres in grid_sample's coordinates, which also hold for an axis of one voxel
        axes.append((position * 2 + (1 - length)) / length)
        moving.append(inside)
    # grid_sample names the last axis first
    return torch.stack(axes[::-1], dim=-1), moving


class DeformConv3d(nn.Module):
    """Deformable convolution that predicts its offsets, and attends to where they matter (ADC).

    Args:
        channels: channels of input and output, (B, channels, H, W, D).
        reduced_channels: channels to which the input is reduced before it is sampled.
    """

    def __init__(self, channels: int, *, reduced_channels: int):
        super().__init__()
        taps = len(TAPS)
        self.reduce = PointwiseConv3d(channels, reduced_channels, bias=False)
        self.offset = nn.Conv3d(reduced_channels, 3 * taps, 3, padding=1, bias=False)
        self.spatial_attention = SpatialAttention(3, kernel_size=7)
        self.kernel = nn.Conv3d(reduced_channels * taps, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        offset = self.offset(reduced)
        offset = offset * self.spatial_attention(offset)
        return deform_conv3d(reduced, offset, self.kernel.weight.flatten(1))
