"""Attention modules against their formulas; the golden outputs hold their numbers."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from nnunetv2_s2ca.architecture.attention import (
    CBAM,
    AttentionGate,
    ChannelAttention,
    SpatialAttention,
)


@pytest.mark.parametrize("max_pool", [False, True])
def test_channel_attention_scales_channels_by_what_they_hold(max_pool):
    torch.manual_seed(0)
    attention = ChannelAttention(8, reduction=4, max_pool=max_pool)
    x = torch.randn(2, 8, 3, 4)

    def excite(pooled):
        return F.relu(pooled @ attention.reduce.weight.T) @ attention.expand.weight.T

    gate = excite(x.mean((2, 3))) + (excite(x.amax((2, 3))) if max_pool else 0)
    torch.testing.assert_close(attention(x), x * gate.sigmoid()[..., None, None])


def test_too_few_channels_for_channel_attention_are_refused():
    with pytest.raises(ValueError, match="8 channels are too few"):
        ChannelAttention(8)


@pytest.mark.parametrize(("ndim", "kernel_size"), [(2, 7), (3, 7), (3, 1)])
def test_spatial_attention_is_a_map_between_0_and_1(ndim, kernel_size):
    torch.manual_seed(0)
    attention = SpatialAttention(ndim, kernel_size=kernel_size)
    x = torch.randn(2, 5, *[6] * ndim)
    y = attention(x)
    assert y.shape == (2, 1, *[6] * ndim)
    assert 0 < y.min() < y.max() < 1
    # it sees nothing but maximum and mean, whatever the order of the channels
    torch.testing.assert_close(attention(x.flip(1)), y)


def test_cbam_attends_to_channels_first():
    torch.manual_seed(0)
    cbam = CBAM(16)
    x = torch.randn(2, 16, 5, 4)
    channels = cbam.channel(x)
    torch.testing.assert_close(cbam(x), channels * cbam.spatial(channels))


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2)])
def test_a_gate_has_the_size_of_the_coarser_level(stride):
    gate = AttentionGate(6, 4, stride=stride)
    coarse = torch.randn(2, 6, 3, 4, 2)
    skip = torch.randn(2, 4, *(n * s for n, s in zip((3, 4, 2), stride, strict=True)))
    relevance = gate(coarse, skip)
    assert relevance.shape == (2, 1, 3, 4, 2)
    assert 0 < relevance.min() < relevance.max() < 1
