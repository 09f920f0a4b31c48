"""Where the backward pass computes a part again."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_s2ca.architecture.recomputing import keep_little


@pytest.mark.parametrize("way", ["as small maps", "as_large_maps", "as_other_devices"])
def test_large_parts_on_a_processor_are_computed_again(way, request):
    if way != "as small maps":
        request.getfixturevalue(way)
    calls = []

    def part(x):
        calls.append(x)
        return x.sin()

    x = torch.randn(1, 2, 4, 4, 4, requires_grad=True)
    keep_little(part, x, kept_values=2).sum().backward()
    assert len(calls) == (2 if way == "as_large_maps" else 1)
    torch.testing.assert_close(x.grad, x.detach().cos())
