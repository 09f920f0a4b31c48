"""How much memory a network keeps, and how much it takes at most."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class KeptForBackward(torch.autograd.graph.saved_tensors_hooks):
    """Within `with`, counts the memory that is kept for the backward pass.

    Args:
        known: Tensors that do not count.
    """

    def __init__(self, known: Sequence[Tensor]):
        super().__init__(self._keep, lambda tensor: tensor)
        self.known = {y.untyped_storage()._cdata for y in known}
        self.sizes: dict[int, int] = {}

    @property
    def nbytes(self) -> int:
        return sum(self.sizes.values())

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.known:
            self.sizes[storage._cdata] = storage.nbytes()
        return tensor


class LiveMemory(TorchDispatchMode):
    """Inside `with`, counts the bytes of all tensors that operations made and that still live.

    It works with fake tensors, too. What an operation takes while it runs, as the fused ones and
    PyTorch's own do, is not counted, nor what an allocator keeps.

    Args:
        known: tensors that are there anyway, and do not count.

    Attributes:
        nbytes: bytes now.
        peak: most bytes so far.
    """

    def __init__(self, known: Sequence[Tensor]):
        super().__init__()
        self.nbytes = self.peak = 0
        self.known = {y.untyped_storage()._cdata for y in known}
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._made(tensor.untyped_storage())
        return out

    def _made(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.sizes or key in self.known:
            return
        self.sizes[key] = storage.nbytes()
        self.nbytes += storage.nbytes()
        self.peak = max(self.peak, self.nbytes)
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.nbytes -= self.sizes.pop(key)
