"""Watch how large the tensors are that a computation makes."""

from __future__ import annotations

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nnunetv2_s2ca.architecture.fused.registering import IMPLEMENTATIONS


class LargestTensor(TorchDispatchMode):
    """Inside `with`, remembers the number of elements of the largest tensor any operation wrote.

    It looks into the fused operations, too. Expanded views count as what they show, unless they
    share their memory with themselves.
    """

    def __init__(self):
        super().__init__()
        self.numel = 0
        self.operation = ""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in IMPLEMENTATIONS:
            with self:
                out = IMPLEMENTATIONS[func](*args, **(kwargs or {}))
        else:
            out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                numel = min(tensor.numel(), tensor.untyped_storage().nbytes() // tensor.itemsize)
                if numel > self.numel:
                    self.numel, self.operation = numel, str(func)
        return out
