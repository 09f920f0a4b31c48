"""The deformable convolution, a few taps at a time.

All 27 · C samples of a voxel never exist together: taps are added up as they are sampled, and
sampled again in the backward pass. Nor do all attended offsets, which would be 81 values a voxel.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunetv2_s2ca.architecture.fused.registering import FusedOperation

# The 27 taps of the kernel in voxels, H slowest.
TAPS = tuple(itertools.product((-1.0, 0.0, 1.0), repeat=3))
# How many of them are sampled before they are added up.
TAPS_AT_ONCE = 9


class DeformArguments(NamedTuple):
    """Arguments of the operation.

    x is (B, C, H, W, D); offset (B, 3, 27, H, W, D) in voxels along H, W, D, in any precision;
    weight (O, C, 27); attention (B, 1, H, W, D), by which a voxel's offsets are multiplied.
    """

    x: Tensor
    offset: Tensor
    weight: Tensor
    attention: Tensor | None

    def sample(self, index: int) -> DeformArguments:
        """The arguments of one sample of the batch, without its axis."""
        attention = None if self.attention is None else self.attention[index]
        return DeformArguments(self.x[index], self.offset[index], self.weight, attention)


class DeformOptions(NamedTuple):
    """There are none."""

    @property
    def outputs(self) -> int:
        return 1


def deform_conv(
    x: Tensor, offset: Tensor, weight: Tensor, attention: Tensor | None = None
) -> Tensor:
    """`architecture.deform_conv.deform_conv3d`, whose arguments it takes, in fp32 at least."""
    arguments = DeformArguments(
        x.contiguous(),
        offset.contiguous().unflatten(1, (3, len(TAPS))),
        weight.unflatten(1, (-1, len(TAPS))),
        None if attention is None else attention.to(x.dtype),
    )
    (out,) = _deform_conv(arguments, DeformOptions())
    return out.permute(0, 4, 1, 2, 3)


def _forward(arguments: DeformArguments, options: DeformOptions) -> list[Tensor]:
    x = arguments.x
    out = x.new_zeros(len(x), x[0, 0].numel(), len(arguments.weight))
    for index, sums in enumerate(out):
        sample = arguments.sample(index)
        for taps in _tap_blocks():
            _add_taps(sample, taps, sums)
    return [out.unflatten(1, x.shape[2:])]


def _add_taps(sample: DeformArguments, taps: slice, sums: Tensor) -> None:
    """Add what some of the taps contribute to one sample's output (H · W · D, O)."""
    grid, _ = _grid(sample, taps)
    values = _sample(sample.x, grid)
    del grid  # before the product, which takes memory of its own
    sums.addmm_(values.flatten(2).flatten(0, 1).T, _block_of(sample.weight, taps).T)


def _backward(
    arguments: DeformArguments,
    options: DeformOptions,
    kept: list[Tensor],
    grads: list[Tensor | None],
) -> DeformArguments:
    grads_found = DeformArguments(
        *(None if value is None else torch.zeros_like(value) for value in arguments)
    )
    (grad,) = grads
    assert grad is not None
    for index in range(len(grad)):
        sample, found = arguments.sample(index), grads_found.sample(index)
        for taps in _tap_blocks():
            _add_grads(sample, taps, grad[index].flatten(0, 2), found)
    return grads_found


def _add_grads(sample: DeformArguments, taps: slice, grad: Tensor, found: DeformArguments) -> None:
    """Add the gradients of one sample's arguments for a gradient (H · W · D, O) of its output."""
    x, offset, weight, attention = sample
    grid, moving = _grid(sample, taps)
    values = _sample(x, grid)
    flat = values.flatten(2).flatten(0, 1)
    found.weight[..., taps] += (flat @ grad).unflatten(0, values.shape[:2]).permute(2, 1, 0)
    grad_values = (_block_of(weight, taps).T @ grad.T).view_as(values)
    # not by autograd, which does not run inside an operation; trilinear, zero outside
    grad_volumes, grad_grid = torch.ops.aten.grid_sampler_3d_backward(
        grad_values, x.expand(len(grid), *x.shape), grid, 0, 0, False, (True, True)
    )
    found.x.add_(grad_volumes.sum(0))
    for axis, length in enumerate(x.shape[1:]):
        grad_moves = grad_grid[..., 2 - axis] * moving[axis] * (2 / length)
        if attention is not None:
            assert found.attention is not None
            found.attention.add_((grad_moves * offset[axis, taps]).sum(0))
            grad_moves *= attention
        found.offset[axis, taps] = grad_moves


def _tap_blocks() -> Iterator[slice]:
    return (slice(lo, lo + TAPS_AT_ONCE) for lo in range(0, len(TAPS), TAPS_AT_ONCE))


def _block_of(weight: Tensor, taps: slice) -> Tensor:
    """(O, C, 27) → (O, n · C) for n of the taps."""
    return weight[..., taps].transpose(1, 2).flatten(1)


def _sample(x: Tensor, grid: Tensor) -> Tensor:
    """Sample (C, H, W, D) at n taps' positions (n, H, W, D, 3) → (n, C, H, W, D)."""
    # one tap a batch entry: grid_sample runs them in parallel, and `expand` copies nothing
    return F.grid_sample(x.expand(len(grid), *x.shape), grid, align_corners=False)


def _grid(sample: DeformArguments, taps: slice) -> tuple[Tensor, list[Tensor]]:
    """Positions for `grid_sample`, (n, H, W, D, 3), and by axis where the offset moves them."""
    x, offset, _, attention = sample
    centres = torch.tensor(TAPS[taps], dtype=x.dtype)
    axes, moving = [], []
    for axis, length in enumerate(x.shape[1:]):
        moves = offset[axis, taps].to(x.dtype)
        if attention is not None:
            moves = moves * attention
        index = torch.arange(length, dtype=x.dtype)
        index = index.reshape([-1 if other == axis else 1 for other in range(3)])
        position = moves + (centres[:, axis].reshape(-1, 1, 1, 1) + index)
        inside = (position >= 0) & (position <= length - 1)
        position = torch.where(inside, position, position.floor())
        # voxel centres in grid_sample's coordinates, which also hold for an axis of one voxel
        axes.append((position * 2 + (1 - length)) / length)
        moving.append(inside)
    # grid_sample names the last axis first
    return torch.stack(axes[::-1], dim=-1), moving


def _fake(arguments: DeformArguments, options: DeformOptions) -> list[Tensor]:
    x, _, weight, _ = arguments
    return [x.new_empty(len(x), *x.shape[2:], len(weight))]


def _flops(shapes: Any, options: DeformOptions) -> int:
    """Two operations a multiply-add of the product with the weight; sampling is not counted."""
    batch, _, *size = shapes.x
    return 2 * batch * math.prod(size) * math.prod(shapes.weight)


_deform_conv = FusedOperation(
    "deform_conv", DeformArguments, DeformOptions, forward=_forward, backward=_backward, fake=_fake
)
_deform_conv.count_flops(_flops)
