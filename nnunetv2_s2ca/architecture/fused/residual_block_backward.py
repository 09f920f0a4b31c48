"""Gradients of the residual block, slab by slab, from the maps before its instance norms."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from nnunetv2_s2ca.architecture.fused.block_input import InputMaps, block_input
from nnunetv2_s2ca.architecture.fused.conv_unit import (
    SeparableConvBackward,
    UnitOutput,
    UnitWeights,
)
from nnunetv2_s2ca.architecture.fused.elementwise import (
    pointwise_weight_grad,
    prelu,
    prelu_backward,
)
from nnunetv2_s2ca.architecture.fused.instance_norm import InstanceNorm, InstanceNormBackward
from nnunetv2_s2ca.architecture.fused.residual_block_parts import (
    BlockArguments,
    BlockOptions,
    BlockWeights,
    Kept,
    projected,
)
from nnunetv2_s2ca.architecture.fused.slabs import seen_by_pointwise, slabs


def backward(
    arguments: BlockArguments,
    options: BlockOptions,
    kept: list[Tensor],
    grads: list[Tensor | None],
) -> BlockArguments:
    """Gradients of all maps and weights from those of the output and the stem feature."""
    maps, weights = arguments
    found = BlockArguments(
        InputMaps(*(_zeros(y) for y in maps)),
        BlockWeights(
            UnitWeights(*map(torch.zeros_like, weights.unit1)),
            UnitWeights(*map(torch.zeros_like, weights.unit2)),
            _zeros(weights.shortcut),
            torch.zeros_like(weights.slope),
        ),
    )
    for index in range(len(maps.x)):
        sample = _Sample(
            BlockArguments(maps.sample(index), weights),
            BlockArguments(found.maps.sample(index), found.weights),
            options.stride,
            Kept(*(y[index] for y in kept)),
        )
        grad, *grad_stem = (None if y is None else y[index] for y in grads)
        sample.differentiate(grad, *grad_stem)
    return found


def _zeros(y: Tensor | None) -> Tensor | None:
    return None if y is None else torch.zeros_like(y)


class _BeforeSum(NamedTuple):
    """A slab on both sides of the sum before the last PReLU, and gradients there."""

    x_seen: Tensor
    projected: Tensor
    grad_normed: Tensor  # of the second unit's norm's output
    grad_total: Tensor  # of the sum
    grad_slope2: Tensor
    grad_slope: Tensor


class _Sample:
    """Adds up the gradients that one sample contributes.

    Args:
        arguments: the sample's maps, and the weights.
        grads: their gradients so far.
        stride: stride of the first unit and of the shortcut.
        kept: the sample's share of what the forward pass kept.
    """

    def __init__(
        self,
        arguments: BlockArguments,
        grads: BlockArguments,
        stride: tuple[int, ...],
        kept: Kept,
    ):
        self.weights, self.grads, self.stride = arguments.weights, grads.weights, stride
        self.x = block_input(arguments.maps, grads.maps)
        self.y1, self.y2 = kept.y1, kept.y2
        norm1, self.norm2, *norm3 = (InstanceNorm(*pair) for pair in kept.statistics)
        self.norm3 = norm3[0] if norm3 else None
        self.stem = UnitOutput(self.y1, norm1, self.weights.unit1.slope)

    def differentiate(self, grad: Tensor | None, grad_stem: Tensor | None = None) -> None:
        """Add the gradients for a gradient of the output, and of the stem feature."""
        if grad_stem is not None:
            self.stem.grad.add_(grad_stem)
        if grad is not None:
            self._second_unit_and_shortcut(grad)
        self._first_unit()

    def _second_unit_and_shortcut(self, grad: Tensor) -> None:
        # Each pass begins with the slab with which the one before ended, which is all of a small
        # map; the instance norms need two passes.
        before_sum = lru_cache(maxsize=1)(
            lambda lo, hi: self._before_sum(grad[lo:hi].contiguous(), lo, hi)
        )
        weights, norm2, norm3 = self.weights, InstanceNormBackward(self.norm2), None
        if self.norm3 is not None:
            norm3 = InstanceNormBackward(self.norm3)
        ranges = slabs(self.y2.shape, self.x.shape)
        for lo, hi in ranges:
            slab = before_sum(lo, hi)
            self.grads.unit2.slope.add_(slab.grad_slope2)
            self.grads.slope.add_(slab.grad_slope)
            norm2.add(slab.grad_normed, self.y2[lo:hi])
            if norm3 is not None:
                norm3.add(slab.grad_total, slab.projected)

        conv2 = SeparableConvBackward(self.stem, weights.unit2, self.grads.unit2, stride=(1, 1, 1))
        for lo, hi in reversed(ranges):
            slab = before_sum(lo, hi)
            conv2.add(lo, hi, norm2.rows(slab.grad_normed, self.y2[lo:hi]))
            grad_seen = slab.grad_total
            if norm3 is not None:
                grad_projected = norm3.rows(slab.grad_total, slab.projected)
                grad_seen = self._through_shortcut(grad_projected, slab.x_seen)
            self.x.add_grad(seen_by_pointwise(lo, hi, self.stride), grad_seen)

    def _before_sum(self, grad: Tensor, lo: int, hi: int) -> _BeforeSum:
        x_seen = self.x.seen(seen_by_pointwise(lo, hi, self.stride))
        residual = before_norm = projected(x_seen, self.weights.shortcut)
        if self.norm3 is not None:
            residual = self.norm3(before_norm)
        normed = self.norm2(self.y2[lo:hi])
        slope2 = self.weights.unit2.slope
        total = prelu(normed, slope2) + residual
        grad_total, grad_slope = prelu_backward(grad, total, self.weights.slope)
        grad_normed, grad_slope2 = prelu_backward(grad_total, normed, slope2)
        return _BeforeSum(x_seen, before_norm, grad_normed, grad_total, grad_slope2, grad_slope)

    def _through_shortcut(self, grad: Tensor, x_seen: Tensor) -> Tensor:
        """Add the gradient of the shortcut's weight, and return that of what it sees."""
        weight, grad_weight = self.weights.shortcut, self.grads.shortcut
        assert weight is not None
        assert grad_weight is not None
        grad_weight.add_(pointwise_weight_grad(grad, x_seen).view_as(grad_weight))
        return grad @ weight.flatten(1).to(grad.dtype)

    def _first_unit(self) -> None:
        stem, grad, unit1 = self.stem, self.stem.grad, self.weights.unit1
        norm1 = InstanceNormBackward(stem.norm)
        ranges = slabs(self.y1.shape, self.x.shape)
        for lo, hi in ranges:
            grad_normed, grad_slope = prelu_backward(
                grad[lo:hi], stem.norm(self.y1[lo:hi]), unit1.slope
            )
            grad[lo:hi] = grad_normed
            self.grads.unit1.slope.add_(grad_slope)
            norm1.add(grad_normed, self.y1[lo:hi])
        conv1 = SeparableConvBackward(self.x, unit1, self.grads.unit1, stride=self.stride)
        for lo, hi in reversed(ranges):
            conv1.add(lo, hi, norm1.rows(grad[lo:hi], self.y1[lo:hi]))
