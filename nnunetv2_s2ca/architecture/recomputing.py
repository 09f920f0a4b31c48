"""Parts of the network that keep nothing for the backward pass but their arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


def recomputed(part: Callable[..., Any], *arguments: Any) -> Any:
    """Call a part that the backward pass calls again, where that is worth it.

    The 2D blocks of the global branches are many, each makes a dozen small maps, and together they
    are a tenth of the arithmetic: kept for the backward pass, their maps would be a third of the
    memory of a training step. `torch.compile` decides by itself what to compute again.

    Not for batch norms, which would count a batch twice.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return part(*arguments)
    return checkpoint(part, *arguments, use_reentrant=False)
