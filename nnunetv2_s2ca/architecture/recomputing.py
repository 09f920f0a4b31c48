"""Parts of the network that keep their input alone for the backward pass, where they are large."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nnunetv2_s2ca.architecture import fused


def keep_little(part: Callable[[Tensor], Tensor], x: Tensor, *, kept_values: int) -> Tensor:
    """Call a part, which the backward pass calls again where it would keep much.

    The 2D blocks of the global branches and of the bottleneck are many, each makes a dozen small
    maps, and together they are a tenth of the network's arithmetic. Kept for the backward pass,
    their maps would be a third of the memory of a training step.

    Args:
        part: what to call; not a batch norm, which would count a batch twice.
        x: (B, C, H, W, D).
        kept_values: how many values the part keeps for the backward pass of one sample.
    """
    if fused.computes_again(x, kept_bytes=kept_values * x.element_size()):
        return checkpoint(part, x, use_reentrant=False)
    return part(x)
