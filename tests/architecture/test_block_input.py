"""A block's input by rows, against the map made as a whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nnunetv2_s2ca.architecture.block_input import MergedInput
from nnunetv2_s2ca.architecture.blocks import PointwiseConv3d, merge

ALL = slice(None)
STRIDES = [(2, 2, 2), (1, 2, 2), (2, 1, 3), (3, 2, 1)]


def three_maps(stride, *, size=(3, 4, 2), dtype=torch.float64) -> list[Tensor]:
    """Skip connection (H, W, D, 3), relevance (h, w, d, 1) and map below (h, w, d, 2)."""
    generator = torch.Generator().manual_seed(0)
    fine = tuple(n * s for n, s in zip(size, stride, strict=True))
    shapes = [(*fine, 3), (*size, 1), (*size, 2)]
    return [
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes
    ]


def made_as_a_whole(maps: list[Tensor]) -> Tensor:
    return merge(*(y.permute(3, 0, 1, 2)[None] for y in maps))[0].permute(1, 2, 3, 0)


@given(st.sampled_from(STRIDES), st.integers(0, 8), st.integers(1, 9))
def test_any_rows_are_those_of_the_whole(stride, lo, count):
    maps = three_maps(stride)
    whole = made_as_a_whole(maps)
    lo = min(lo, len(whole) - 1)
    hi = min(lo + count, len(whole))
    torch.testing.assert_close(MergedInput(*maps).rows(lo, hi), whole[lo:hi])


@given(st.sampled_from(STRIDES), st.integers(1, 9))
def test_gradients_of_slabs_add_up_to_those_of_the_whole(stride, step):
    maps = three_maps(stride)
    whole = made_as_a_whole(maps)
    grad = torch.randn_like(whole)
    expected = torch.autograd.grad(whole, maps, grad)
    with torch.no_grad():
        merged = MergedInput(*maps)
        for lo in range(0, len(whole), step):
            hi = min(lo + step, len(whole))
            merged.add_grad((slice(lo, hi), ALL, ALL), grad[lo:hi])
    torch.testing.assert_close(merged.grads, list(expected))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_up_sampled_in_single(dtype):
    maps = [y.detach().to(dtype) for y in three_maps((2, 2, 2))]
    expected = made_as_a_whole([y.float() for y in maps])
    rows = MergedInput(*maps).rows(0, len(expected))
    assert rows.dtype == dtype
    torch.testing.assert_close(rows.float(), expected, rtol=torch.finfo(dtype).eps * 2, atol=1e-2)


@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("bias", [True, False])
def test_pointwise_convolution_is_pytorchs(stride, memory_format, bias):
    torch.manual_seed(0)
    pointwise = PointwiseConv3d(3, 5, stride=stride, bias=bias).double()
    conv = torch.nn.Conv3d(3, 5, 1, stride=stride, bias=bias).double()
    conv.load_state_dict(pointwise.state_dict())
    x = torch.randn(2, 3, 5, 4, 6, dtype=torch.float64).to(memory_format=memory_format)
    x.requires_grad_()
    got, expected = pointwise(x), conv(x)
    torch.testing.assert_close(got, expected)
    way = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(got, [x, *pointwise.parameters()], way),
        torch.autograd.grad(expected, [x, *conv.parameters()], way),
    )
