"""Bring a skip connection and the level below together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def upsample(x: Tensor, size: Sequence[int]) -> Tensor:
    """Up-sample (B, C, …) trilinearly to a spatial `size`, with align_corners=False.

    The result has the dtype of x, also under autocast, which would write it in fp32 for the next
    convolution to copy it back; the kernel computes in fp32 within.
    """
    with torch.autocast(x.device.type, enabled=False):
        return F.interpolate(x, size=tuple(size), mode="trilinear", align_corners=False)


def merge(skip: Tensor, relevance: Tensor, below: Tensor) -> Tensor:
    """Concatenate a gated skip connection and the up-sampled map of the level below.

    Args:
        skip: (B, C, H, W, D).
        relevance: (B, 1, H / s, …), the map in (0, 1) by which the skip connection is weighted.
        below: (B, C', H / s, …).

    Returns:
        [skip · up(relevance), up(below)], (B, C + C', H, W, D).
    """
    size = skip.shape[2:]
    return torch.cat([skip * upsample(relevance, size), upsample(below, size)], dim=1)
