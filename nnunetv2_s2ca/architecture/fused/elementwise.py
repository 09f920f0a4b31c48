"""Arithmetic on slabs (rows, W, D, C), in the forms that are fast on a processor."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU with one slope, in x's dtype."""
    return F.prelu(x, slope.to(x.dtype))


def prelu_backward(grad: Tensor, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of PReLU's input and slope."""
    grad = grad.to(x.dtype)
    positive = torch.ops.aten.threshold_backward(grad, x, 0)
    negative = grad - positive
    return positive + negative * slope, torch.dot(negative.flatten(), x.flatten())


def affine(y: Tensor, factor: Tensor, constant: Tensor) -> Tensor:
    """Multiply and add per channel, on rows long enough to be fast."""
    depth = y.shape[2]
    return torch.addcmul(constant.repeat(depth), y.flatten(2), factor.repeat(depth)).view(y.shape)


def channel_sum(y: Tensor) -> Tensor:
    """Sum over all but the channels."""
    return y.flatten(0, 1).flatten(1).sum(0).unflatten(0, y.shape[2:]).sum(0)


def pointwise_conv(x: Tensor, weight: Tensor) -> Tensor:
    """Pointwise convolution without bias, (rows, W, D, C) → (rows, W, D, O)."""
    return F.linear(x, weight.flatten(1))


def pointwise_weight_grad(grad: Tensor, x: Tensor) -> Tensor:
    """Gradient of a pointwise convolution's weight, (O, C)."""
    return grad.flatten(0, 2).T @ x.flatten(0, 2)
