"""Hold one formulation of a function against another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def assert_same(
    got: Sequence[Tensor], expected: Sequence[Tensor], inputs: Sequence[Tensor]
) -> None:
    """Compare values, and the gradients of all inputs for random gradients of the outputs."""
    generator = torch.Generator().manual_seed(7)
    ways = [torch.randn(y.shape, generator=generator, dtype=y.dtype) for y in expected]
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours, theirs in zip(
        torch.autograd.grad(got, inputs, ways),
        torch.autograd.grad(expected, inputs, ways),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
