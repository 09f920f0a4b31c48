"""Which way an operation is computed: layer by layer, or slab by slab as a processor likes it.

Slabs save memory and its traffic, and pay with more and smaller operations. Small maps, which stay
in a processor's cache, are better off without.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# A residual block with a smaller input, in values a sample, is computed layer by layer: 64 kB in
# fp32.
LAYERWISE_VALUES = 2**14
# A block's input is merged as a whole up to this many values a sample, 64 MB in fp32: they are read
# faster than they are made again.
MERGED_VALUES = 2**24
# The deformable convolution keeps up to this many values a sample for the backward pass.
SAMPLED_VALUES = 2**22


def layer_by_layer(x: Tensor) -> bool:
    """Whether a residual block of (B, C, H, W, D) is to be computed layer by layer."""
    return written_out_for_compiler(x) or x[0].numel() <= LAYERWISE_VALUES


def merged_as_a_whole(maps: Sequence[Tensor]) -> bool:
    """Whether a skip connection, its relevance and the map below are to be merged beforehand."""
    skip, _, below = maps
    channels = skip.shape[1] + below.shape[1]
    return written_out_for_compiler(skip) or skip[0, 0].numel() * channels <= MERGED_VALUES


def sampled_at_once(x: Tensor, *, taps: int) -> bool:
    """Whether the samples of (B, C, H, W, D) at all taps are to exist together."""
    return x[0].numel() * taps <= SAMPLED_VALUES


def written_out_for_compiler(x: Tensor) -> bool:
    """Whether an operation is to be written out plainly, layer by layer, for the compiler to fuse.

    On a processor it is not: there, what the compiler makes of 27 taps and of whole maps is slower
    than our own slabs and takes minutes to compile, so it gets them as one operation that it does
    not look into. That operation would not see autocast, which the compiler resolves, and would
    tie an exported program to this package.
    """
    if not torch.compiler.is_compiling():
        return False
    return (
        x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_exporting()
    )
