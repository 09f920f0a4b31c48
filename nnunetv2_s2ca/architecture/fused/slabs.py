"""Slabs of a map: as many of its rows as a processor's cache holds.

Below `architecture.fused` a map is one sample's with its channels last, (H, W, D, C); rows count
along H.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

# A slab has about this many values for each thread that shares it, 2 MB in fp32. Beyond
# MAX_THREADS it does not grow, so that slabs stay small beside the map.
SLAB_VALUES = 2**19
MAX_THREADS = 16
# A map of at most this many values is one slab, of which the passes share more.
ONE_SLAB_VALUES = 2**21

ALL = slice(None)
# Rows of a map, and which voxels of each.
Seen = tuple[slice, slice, slice]


class Rows(Protocol):
    """A map that hands out its rows, and takes gradients of them."""

    shape: torch.Size
    dtype: torch.dtype

    def rows(self, lo: int, hi: int) -> Tensor:
        """(hi − lo, W, D, C)."""

    def add_grad(self, seen: Seen, grad: Tensor) -> None:
        """Add the gradient of what is seen."""


def slabs(*shapes: torch.Size) -> list[tuple[int, int]]:
    """Ranges of rows of the first map, so that a slab of the largest of the maps fits."""
    rows, largest = shapes[0][0], max(shape.numel() for shape in shapes)
    if largest <= ONE_SLAB_VALUES:
        return [(0, rows)]
    values = SLAB_VALUES * min(torch.get_num_threads(), MAX_THREADS)
    step = max(2, values * rows // largest)
    return [(lo, min(lo + step, rows)) for lo in range(0, rows, step)]


def seen_by_pointwise(lo: int, hi: int, stride: Sequence[int]) -> Seen:
    """The voxels from which a strided pointwise convolution makes its rows lo to hi."""
    rows = slice(lo * stride[0], (hi - 1) * stride[0] + 1, stride[0])
    return rows, slice(None, None, stride[1]), slice(None, None, stride[2])


def window(x: Rows, lo: int, hi: int, stride: int) -> Tensor:
    """The rows of x that a 3×3×3 kernel sees for its output's rows lo to hi, zeros beyond x."""
    first, last = lo * stride - 1, (hi - 1) * stride + 2
    length = x.shape[0]
    seen = x.rows(max(first, 0), min(last, length))
    if first >= 0 and last <= length:
        return seen
    return F.pad(seen, (0, 0, 0, 0, 0, 0, max(-first, 0), max(last - length, 0)))


def size_after(stride: Sequence[int], size: Sequence[int]) -> list[int]:
    """Size of a map after a strided convolution that keeps the borders."""
    return [-(-length // s) for length, s in zip(size, stride, strict=True)]
