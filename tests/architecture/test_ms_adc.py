"""The deformable skip connections."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_s2ca.architecture.ms_adc import MultiScaleDeformConv

FEATURES = (4, 8, 12)


@pytest.mark.parametrize(
    "strides", [((1, 1, 1), (2, 2, 2), (2, 2, 2)), ((1, 1, 1), (1, 2, 2), (2, 3, 2))]
)
def test_every_skip_connection_sees_every_level(strides):
    torch.manual_seed(0)
    module = MultiScaleDeformConv(FEATURES, strides=strides)
    size, levels = [2, 2, 3], []
    for features, stride in zip(reversed(FEATURES), reversed(strides), strict=True):
        levels.insert(0, torch.randn(2, features, *size, requires_grad=True))
        size = [n * s for n, s in zip(size, stride, strict=True)]
    skips = module(levels)
    assert [y.shape for y in skips] == [x.shape for x in levels]
    for y in skips:
        gradients = torch.autograd.grad(y.square().sum(), levels, retain_graph=True)
        assert all(gradient.abs().amax() > 0 for gradient in gradients)


def test_skip_connections_are_levels_with_an_adaptation_added():
    torch.manual_seed(0)
    module = MultiScaleDeformConv(FEATURES, strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)))
    for layer in module.to_skips:
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    levels = [torch.randn(1, f, *[8 // 2**i] * 3) for i, f in enumerate(FEATURES)]
    torch.testing.assert_close(module(levels), levels)
