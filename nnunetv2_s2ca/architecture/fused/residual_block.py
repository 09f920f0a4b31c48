"""The residual block slab by slab: the numbers of its layers at a fraction of their memory traffic.

At full resolution the block is bound by memory, not by arithmetic: each of its layers would write a
map of its own and the next would read it back. Here the layers run on slabs along H that fit into a
processor's cache. Only the two maps before the instance norms are written as a whole, and only they
are kept for the backward pass (`residual_block_backward`), which computes the rest again.
`benchmarks/README.md` says what that brings.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nnunetv2_s2ca.architecture.fused.block_input import InputMaps, block_input
from nnunetv2_s2ca.architecture.fused.conv_unit import UnitOutput, separable_conv
from nnunetv2_s2ca.architecture.fused.elementwise import prelu
from nnunetv2_s2ca.architecture.fused.instance_norm import InstanceNorm, Moments
from nnunetv2_s2ca.architecture.fused.registering import FusedOperation
from nnunetv2_s2ca.architecture.fused.residual_block_backward import backward
from nnunetv2_s2ca.architecture.fused.residual_block_parts import (
    BlockArguments,
    BlockOptions,
    BlockWeights,
    projected,
)
from nnunetv2_s2ca.architecture.fused.slabs import seen_by_pointwise, size_after, slabs


def residual_block(
    maps: InputMaps, weights: BlockWeights, *, stride: tuple[int, ...], with_stem: bool
) -> list[Tensor]:
    """Compute a `ResidualBlock` from its weights.

    Args:
        maps: the input, or the three maps that it is merged from, (B, C, H, W, D) each;
            channels-last is the fast layout.
        weights: the block's weights.
        stride: stride of the first unit and of the shortcut on H, W, D.
        with_stem: return the first unit's output, too.

    Returns:
        The block's output (B, O, H / stride, …), channels-last, and the stem feature if asked for;
        in the dtype of autocast, if that is on, else of the maps.
    """
    dtype = maps.x.dtype
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
    maps = InputMaps(
        *(None if y is None else y.to(dtype).permute(0, 2, 3, 4, 1).contiguous() for y in maps)
    )
    h, w, d = stride
    options = BlockOptions(h, w, d, int(with_stem), int(torch.is_grad_enabled()))
    made = _residual_block(BlockArguments(maps, weights), options)
    return [y.permute(0, 4, 1, 2, 3) for y in made]


class _Made(NamedTuple):
    """Maps to write to, (H, W, D, O): before the norms, the output, the stem feature."""

    y1: Tensor
    y2: Tensor
    out: Tensor
    stem: Tensor | None


def _forward(arguments: BlockArguments, options: BlockOptions) -> list[Tensor]:
    y1, y2, *_ = _empty(arguments, options)
    # if nothing is kept for a backward pass, the maps make room for what is computed from them
    out = torch.empty_like(y2) if options.keep else y2
    stem = None
    if options.with_stem:
        stem = torch.empty_like(y1) if options.keep else y1
    statistics = []
    for index in range(len(y1)):
        made = _Made(y1[index], y2[index], out[index], None if stem is None else stem[index])
        norms = _forward_sample(arguments, index, made, options)
        statistics.append(torch.stack([torch.stack(norm) for norm in norms]))
    kept = [y1, y2, torch.stack(statistics)] if options.keep else []
    return [out, *([] if stem is None else [stem]), *kept]


def _forward_sample(
    arguments: BlockArguments, index: int, made: _Made, options: BlockOptions
) -> list[InstanceNorm]:
    """Write one sample's maps, and return the norms that were used."""
    x, weights, stride = (
        block_input(arguments.maps.sample(index)),
        arguments.weights,
        options.stride,
    )
    norm1 = separable_conv(x, weights.unit1, stride, made.y1)
    stem = UnitOutput(made.y1, norm1, weights.unit1.slope)
    norm2 = separable_conv(stem, weights.unit2, (1, 1, 1), made.y2)
    unit2 = UnitOutput(made.y2, norm2, weights.unit2.slope)
    norms = [norm1, norm2]
    if weights.shortcut is not None:
        moments = Moments()
        for lo, hi in slabs(made.y2.shape, x.shape):
            moments.add(projected(x.seen(seen_by_pointwise(lo, hi, stride)), weights.shortcut))
        norms.append(moments.norm())
    for lo, hi in slabs(made.y2.shape, x.shape):
        residual = projected(x.seen(seen_by_pointwise(lo, hi, stride)), weights.shortcut)
        if weights.shortcut is not None:
            residual = norms[-1](residual)
        made.out[lo:hi] = prelu(unit2.rows(lo, hi) + residual, weights.slope)
    if made.stem is not None:
        for lo, hi in slabs(made.y1.shape, x.shape):
            made.stem[lo:hi] = stem.rows(lo, hi)
    return norms


def _empty(arguments: BlockArguments, options: BlockOptions) -> list[Tensor]:
    """Two maps and their statistics, without values."""
    x, weights = arguments.maps.x, arguments.weights
    size = [len(x), *size_after(options.stride, x.shape[1:4]), len(weights.unit1.pointwise)]
    norms = 2 if weights.shortcut is None else 3
    dtype = torch.promote_types(x.dtype, torch.float32)
    statistics = x.new_empty(len(x), norms, 2, size[-1], dtype=dtype)
    return [x.new_empty(size), x.new_empty(size), statistics]


def _fake(arguments: BlockArguments, options: BlockOptions) -> list[Tensor]:
    y1, y2, statistics = _empty(arguments, options)
    outputs = [torch.empty_like(y1) for _ in range(options.outputs)]
    return [*outputs, y1, y2, statistics] if options.keep else outputs


def _flops(shapes: Any, options: BlockOptions) -> int:
    """Two operations a multiply-add; `shapes` are the arguments' shapes in their place."""
    (batch, *size, _), weights = shapes.maps.x, shapes.weights
    kernels = [*weights.unit1[:2], *weights.unit2[:2]]
    if weights.shortcut is not None:
        kernels.append(weights.shortcut)
    voxels = batch * math.prod(size_after(options.stride, size))
    return 2 * voxels * sum(math.prod(kernel) for kernel in kernels)


_residual_block = FusedOperation(
    "residual_block", BlockArguments, BlockOptions, forward=_forward, backward=backward, fake=_fake
)
_residual_block.count_flops(_flops)
