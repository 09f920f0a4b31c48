"""How the network presents itself to `torch.compile`."""

from __future__ import annotations

import torch
from torch import Tensor


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
