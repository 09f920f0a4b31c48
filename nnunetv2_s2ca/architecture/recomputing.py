"""Parts of the network that keep nothing for the backward pass but their arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# What would keep fewer bytes than this is not computed again: at small patches the time counts, and
# weights and optimiser need more. At a patch of 128³ a branch would keep up to 340 MB a sample.
KEPT_BYTES = 10**8
# Values a channel of each of its blocks that a branch would keep for each pixel of its planes.
KEPT_VALUES = 20


def recomputed(part: Callable[..., Any], *arguments: Any, would_keep: int) -> Any:
    """Call a part that the backward pass calls again, where that is worth it.

    The 2D blocks of the global branches are many, each makes a dozen small maps, and together they
    are a tenth of the arithmetic: kept for the backward pass, their maps would be a third of the
    memory of a training step. `torch.compile` decides by itself what to compute again.

    Not for batch norms, which would count a batch twice.

    Args:
        part: what to call.
        arguments: its arguments.
        would_keep: bytes that the branch of which it is a part would keep, roughly.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or would_keep < KEPT_BYTES:
        return part(*arguments)
    return checkpoint(part, *arguments, use_reentrant=False)


def bytes_of_branch(x: Tensor, *, width: int, depth: int) -> int:
    """Bytes that 2D blocks on all planes of a map keep for the backward pass, roughly.

    Args:
        x: the map, (B, C, H, W, D).
        width: channels of the blocks.
        depth: number of blocks.
    """
    pixels = len(x) * sum(x[0, 0].numel() // length for length in x.shape[2:])
    return KEPT_VALUES * pixels * width * depth * x.element_size()
