"""The convolutions of a unit slab by slab: depthwise, pointwise, statistics of the norm.

A unit's output is never materialised: its rows are made from the map before the norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from nnunetv2_s2ca.architecture.fused.depthwise import (
    depthwise_conv,
    depthwise_input_grad,
    depthwise_weight_grad,
)
from nnunetv2_s2ca.architecture.fused.elementwise import (
    pointwise_conv,
    pointwise_weight_grad,
    prelu,
)
from nnunetv2_s2ca.architecture.fused.instance_norm import InstanceNorm, Moments
from nnunetv2_s2ca.architecture.fused.slabs import ALL, Rows, Seen, slabs, window


class UnitWeights(NamedTuple):
    """Weights of a `ConvUnit`: two convolutions, the second one's bias, and the PReLU's slope."""

    depthwise: Tensor
    pointwise: Tensor
    bias: Tensor
    slope: Tensor


class UnitOutput:
    """What a unit puts out, made by rows from its map before the norm.

    Args:
        y: the map before the norm, (H, W, D, C).
        norm: the norm.
        slope: slope of the PReLU behind the norm.
    """

    def __init__(self, y: Tensor, norm: InstanceNorm, slope: Tensor):
        self.y, self.norm, self.slope = y, norm, slope
        self.shape, self.dtype = y.shape, y.dtype

    def rows(self, lo: int, hi: int) -> Tensor:
        return prelu(self.norm(self.y[lo:hi]), self.slope).to(self.dtype)

    @cached_property
    def grad(self) -> Tensor:
        """Gradient of the output, added up by `add_grad`."""
        return torch.zeros_like(self.y)

    def add_grad(self, seen: Seen, grad: Tensor) -> None:
        self.grad[seen] += grad


def separable_conv(x: Rows, unit: UnitWeights, stride: Sequence[int], y: Tensor) -> InstanceNorm:
    """Write the map before the norm to y, (H / stride, …, O), and return the norm.

    The bias is left out, since the norm cancels it.
    """
    depthwise, pointwise = unit.depthwise.to(y.dtype), unit.pointwise.to(y.dtype)
    moments = Moments()
    for lo, hi in slabs(y.shape, x.shape):
        seen = window(x, lo, hi, stride[0])
        slab = pointwise_conv(depthwise_conv(seen, depthwise, stride), pointwise)
        y[lo:hi] = slab
        moments.add(slab)
    return moments.norm()


class SeparableConvBackward:
    """Gradients of a unit's convolutions, added up from slabs of the gradient of their output.

    Args:
        x: the convolutions' input, which gets its gradient added.
        unit: the weights.
        grads: gradients of the weights, which get theirs added.
        stride: stride of the depthwise convolution.
    """

    def __init__(self, x: Rows, unit: UnitWeights, grads: UnitWeights, *, stride: Sequence[int]):
        self.x, self.grads, self.stride = x, grads, stride
        self.depthwise = unit.depthwise.to(x.dtype)
        self.pointwise = unit.pointwise.to(x.dtype)

    def add(self, lo: int, hi: int, grad: Tensor) -> None:
        """Count the gradient of the rows lo to hi before the norm in."""
        seen = window(self.x, lo, hi, self.stride[0])
        between = depthwise_conv(seen, self.depthwise, self.stride)
        self.grads.pointwise.add_(
            pointwise_weight_grad(grad, between).view_as(self.grads.pointwise)
        )
        grad = grad @ self.pointwise.flatten(1)
        self.grads.depthwise.add_(depthwise_weight_grad(seen, grad, self.depthwise, self.stride))
        rows = depthwise_input_grad(grad, self.depthwise, self.stride, seen.shape)
        first = lo * self.stride[0] - 1
        inside = slice(max(first, 0), min(first + len(rows), self.x.shape[0]))
        self.x.add_grad((inside, ALL, ALL), rows[inside.start - first : inside.stop - first])
