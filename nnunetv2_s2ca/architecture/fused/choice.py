"""Where the fast forms are used: on processors, for maps that leave its caches.

Fast forms save memory and its traffic, and pay with more and smaller operations. Small maps stay in
a cache, and other devices have bandwidth to spare but launch every operation separately: both are
better off with the formulas. So is an exported program, which must not need this package.
"""

from __future__ import annotations

import torch
from torch import Tensor

# A residual block with a smaller input is computed layer by layer, in values a sample.
BLOCK_VALUES = 2**14
# The input of a decoder's block is merged as a whole up to this many values a sample.
MERGED_VALUES = 2**24
# The deformable convolution keeps up to this many samples for the backward pass, by sample.
SAMPLED_VALUES = 2**22
# A branch keeps up to this many bytes for the backward pass rather than compute them again, by
# sample. At a patch of 128³ the global branches would keep 54 to 320 MB, the shifted MLP 620 MB.
KEPT_BYTES = 5 * 10**7


def on_processor(x: Tensor) -> bool:
    """Whether fast forms are to be used on the device of x at all."""
    return x.device.type == "cpu" and not torch.compiler.is_exporting()


def block_is_fused(x: Tensor) -> bool:
    """Whether a residual block of x, (B, C, H, W, D), takes its fast form."""
    return on_processor(x) and x[0].numel() > BLOCK_VALUES


def merging_is_fused(skip: Tensor, below: Tensor) -> bool:
    """Whether a block makes the rows of its merged input itself.

    Args:
        skip: skip connection, (B, C, H, W, D).
        below: map of the level below, (B, C', H / stride, …).
    """
    channels = skip.shape[1] + below.shape[1]
    return on_processor(skip) and skip[0, 0].numel() * channels > MERGED_VALUES


def sampling_is_fused(x: Tensor, *, taps: int) -> bool:
    """Whether a deformable convolution of x, (B, C, H, W, D), takes its fast form."""
    return on_processor(x) and x[0].numel() * taps > SAMPLED_VALUES


def computes_again(x: Tensor, *, kept_bytes: int) -> bool:
    """Whether the backward pass computes a part again.

    Args:
        x: input of the part.
        kept_bytes: what the part would keep for the backward pass, by sample.
    """
    # the compiler decides by itself what to compute again
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return False
    return on_processor(x) and kept_bytes > KEPT_BYTES
