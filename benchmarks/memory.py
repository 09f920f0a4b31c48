"""How much memory a forward pass keeps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class KeptForBackward(torch.autograd.graph.saved_tensors_hooks):
    """Inside `with`, counts the memory that is kept for the backward pass.

    Args:
        known: tensors that are there anyway, and do not count.
    """

    def __init__(self, known: Sequence[Tensor]):
        super().__init__(self._keep, lambda tensor: tensor)
        self.known = {y.untyped_storage().data_ptr() for y in known}
        self.sizes: dict[int, int] = {}

    @property
    def nbytes(self) -> int:
        return sum(self.sizes.values())

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.known:
            self.sizes[storage.data_ptr()] = storage.nbytes()
        return tensor
