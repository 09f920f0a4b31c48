"""Depthwise 3×3×3 convolution of windows (rows, W, D, C), and its gradients.

A window brings the row before and the row behind along, so that only W and D are padded here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight


def depthwise_conv(window: Tensor, weight: Tensor, stride: Sequence[int]) -> Tensor:
    """(rows + 2, W, D, C) → (rows / stride, …, C), for a weight (C, 1, 3, 3, 3)."""
    z = F.conv3d(
        window.unsqueeze(0).permute(0, 4, 1, 2, 3),
        weight,
        stride=tuple(stride),
        padding=(0, 1, 1),
        groups=len(weight),
    )
    return z.squeeze(0).permute(1, 2, 3, 0)


def depthwise_input_grad(
    grad: Tensor, weight: Tensor, stride: Sequence[int], size: Sequence[int]
) -> Tensor:
    """Gradient of a window of `size`: the convolution with the mirrored kernel."""
    if tuple(stride) != (1, 1, 1):
        spread = grad.new_zeros(size[0] - 2, *size[1:])
        spread[tuple(slice(None, None, s) for s in stride)] = grad
        grad = spread
    z = F.conv3d(
        grad.unsqueeze(0).permute(0, 4, 1, 2, 3),
        weight.flip(2, 3, 4),
        padding=(2, 1, 1),
        groups=len(weight),
    )
    return z.squeeze(0).permute(1, 2, 3, 0)


def depthwise_weight_grad(
    window: Tensor, grad: Tensor, weight: Tensor, stride: Sequence[int]
) -> Tensor:
    """Gradient of the kernel, as three of 2D kernels with H as the batch.

    On the CPU this has a fast implementation, which the 3D kernel has not.
    """
    planes, grad_planes = window.permute(0, 3, 1, 2), grad.permute(0, 3, 1, 2)
    rows = (len(grad) - 1) * stride[0] + 1
    parts = [
        conv2d_weight(
            planes[h : h + rows : stride[0]],
            weight.shape[:2] + weight.shape[3:],
            grad_planes,
            stride=tuple(stride[1:]),
            padding=1,
            groups=len(weight),
        )
        for h in range(3)
    ]
    return torch.stack(parts, dim=2)
