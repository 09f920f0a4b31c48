"""The bottleneck that gathers all levels."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_s2ca.architecture.mca import MultiScaleContextAggregation

FEATURES = (4, 4, 6, 8)


@pytest.mark.parametrize(
    "strides",
    [((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)), ((1, 1, 1), (1, 2, 2), (2, 2, 2), (3, 2, 2))],
)
def test_all_levels_reach_the_coarsest(strides):
    torch.manual_seed(0)
    mca = MultiScaleContextAggregation(FEATURES, strides=strides).eval()
    size, levels = [2, 3, 2], []
    for features, stride in zip(reversed(FEATURES), reversed(strides), strict=True):
        levels.insert(0, torch.randn(2, features, *size, requires_grad=True))
        size = [n * s for n, s in zip(size, stride, strict=True)]
    out = mca(levels)
    assert out.shape == levels[-1].shape
    gradients = torch.autograd.grad(out.square().sum(), levels)
    assert all(gradient.abs().amax() > 0 for gradient in gradients)


def test_local_and_global_context_are_added_to_the_coarsest_level():
    torch.manual_seed(0)
    mca = MultiScaleContextAggregation(FEATURES, strides=((1, 1, 1), *[(2, 2, 2)] * 3)).eval()
    levels = [torch.randn(1, f, *[16 // 2**i] * 3) for i, f in enumerate(FEATURES)]
    gathered = [down(x) for down, x in zip(mca.down, levels, strict=False)]
    z = mca.channel_attention(torch.cat([*gathered, levels[-1]], dim=1))
    expected = levels[-1] + mca.spatial_attention(mca.local(z)) * mca.shifted_mlp(z)
    torch.testing.assert_close(mca(levels), expected)
