"""What enters a residual block, row by row: a map, or one that is never made as a whole.

A decoder's block reads its gated skip connection side by side with the up-sampled map of the level
below. At full resolution that would be the largest map of the network, three times as large as the
block's output. Here its rows are made when they are read, which costs less than reading them from
memory, and gradients of its rows are passed on at once to the maps that they come from.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunetv2_s2ca.architecture.fused.slabs import Seen


class InputMaps(NamedTuple):
    """The map that a block reads, or those that it is merged from; or gradients of them.

    One sample's, or with an axis for the batch before: x is (H, W, D, C), the input or the skip
    connection; relevance (H / s, W / s, D / s, 1), the attention gate's map; below (H / s, W / s,
    D / s, C'), the map of the level below.
    """

    x: Tensor
    relevance: Tensor | None = None
    below: Tensor | None = None

    def sample(self, index: int) -> InputMaps:
        """One sample of a batch."""
        return InputMaps(*(None if y is None else y[index] for y in self))


class MapInput:
    """A map as input of a block.

    Args:
        maps: the map.
        grads: its gradient, which gets the gradients of rows added.
    """

    def __init__(self, maps: InputMaps, grads: InputMaps | None = None):
        self.x, self.grads = maps.x, grads
        self.shape, self.dtype = maps.x.shape, maps.x.dtype

    def rows(self, lo: int, hi: int) -> Tensor:
        """(hi − lo, W, D, C)."""
        return self.x[lo:hi]

    def seen(self, seen: Seen) -> Tensor:
        """The rows and voxels that a strided pointwise convolution sees."""
        return self.x[seen]

    def add_grad(self, seen: Seen, grad: Tensor) -> None:
        """Add the gradient of what is seen."""
        assert self.grads is not None
        self.grads.x[seen] += grad


class MergedInput:
    """[skip · up(relevance), up(below)], (H, W, D, C + C'), the input of a decoder's block.

    Args:
        maps: the three maps.
        grads: their gradients, which get the gradients of rows added.
    """

    def __init__(self, maps: InputMaps, grads: InputMaps | None = None):
        skip, relevance, below = maps
        assert relevance is not None
        assert below is not None
        self.skip, self.relevance, self.below, self.grads = skip, relevance, below, grads
        self.shape = torch.Size([*skip.shape[:3], skip.shape[3] + below.shape[3]])
        self.dtype = torch.promote_types(skip.dtype, below.dtype)

    def rows(self, lo: int, hi: int) -> Tensor:
        """(hi − lo, W, D, C + C')."""
        gated = self.skip[lo:hi] * self._upsampled(self.relevance, lo, hi)
        return torch.cat([gated, self._upsampled(self.below, lo, hi)], dim=3).to(self.dtype)

    def seen(self, seen: Seen) -> Tensor:
        """The rows and voxels that a strided pointwise convolution sees."""
        rows = seen[0]
        return self.rows(rows.start, rows.stop)[:: rows.step, seen[1], seen[2]]

    def add_grad(self, seen: Seen, grad: Tensor) -> None:
        """Add the gradient of whole rows."""
        assert self.grads is not None
        lo, hi = seen[0].start, seen[0].stop
        grad_skip, grad_relevance, grad_below = self.grads
        gated, up = grad.split([self.skip.shape[3], self.below.shape[3]], dim=3)
        grad_skip[lo:hi] += gated * self._upsampled(self.relevance, lo, hi)
        up_relevance = (gated * self.skip[lo:hi]).sum(3, keepdim=True)
        self._add_upsampled_grad(grad_relevance, up_relevance, lo, hi)
        self._add_upsampled_grad(grad_below, up, lo, hi)

    def _upsampled(self, y: Tensor, lo: int, hi: int) -> Tensor:
        """Rows of the trilinearly up-sampled map: between rows first, then within each."""
        source, weights = self._sources(y, lo, hi)
        blended = torch.tensordot(weights, y[source].to(weights.dtype), 1)
        size = self.skip.shape[1:3]
        up = F.interpolate(blended.permute(0, 3, 1, 2), size=size, mode="bilinear")
        return up.permute(0, 2, 3, 1)

    def _add_upsampled_grad(self, grad_y: Tensor, grad: Tensor, lo: int, hi: int) -> None:
        source, weights = self._sources(grad_y, lo, hi)
        planes = grad.to(weights.dtype).permute(0, 3, 1, 2)
        size = [*planes.shape[:2], *grad_y.shape[1:3]]
        # not by autograd, which does not run inside an operation
        blended = torch.ops.aten.upsample_bilinear2d_backward(
            planes, list(planes.shape[2:]), size, False
        ).permute(0, 2, 3, 1)
        grad_y[source] += torch.tensordot(weights.T, blended, 1)

    def _sources(self, y: Tensor, lo: int, hi: int) -> tuple[slice, Tensor]:
        """The rows of y that rows lo to hi lie between, and their weights (hi − lo, sources)."""
        stride = len(self.skip) // len(y)
        first = max(math.floor((lo + 0.5) / stride - 0.5), 0)
        last = min(math.floor((hi - 0.5) / stride - 0.5) + 1, len(y) - 1)
        unit = torch.eye(last + 1 - first, dtype=torch.promote_types(y.dtype, torch.float32))
        # how far each of the sources reaches; at the map's ends the last one goes on, as here
        reach = F.interpolate(unit[None], size=stride * len(unit), mode="linear")[0]
        return slice(first, last + 1), reach.T[lo - first * stride : hi - first * stride]


BlockInput = MapInput | MergedInput


def block_input(maps: InputMaps, grads: InputMaps | None = None) -> BlockInput:
    """The input that one sample's maps make."""
    return MapInput(maps, grads) if maps.below is None else MergedInput(maps, grads)
