"""A block's input by rows, against the map made as a whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nnunetv2_s2ca.architecture.fused.block_input import InputMaps, MergedInput
from nnunetv2_s2ca.architecture.merging import merge

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
    torch.testing.assert_close(MergedInput(InputMaps(*maps)).rows(lo, hi), whole[lo:hi])


@given(st.sampled_from(STRIDES), st.integers(1, 9))
def test_gradients_of_slabs_add_up_to_those_of_the_whole(stride, step):
    maps = three_maps(stride)
    whole = made_as_a_whole(maps)
    grad = torch.randn_like(whole)
    expected = torch.autograd.grad(whole, maps, grad)
    with torch.no_grad():
        grads = InputMaps(*map(torch.zeros_like, maps))
        merged = MergedInput(InputMaps(*maps), grads)
        for lo in range(0, len(whole), step):
            hi = min(lo + step, len(whole))
            merged.add_grad((slice(lo, hi), ALL, ALL), grad[lo:hi])
    torch.testing.assert_close(list(grads), list(expected))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_up_sampled_in_single(dtype):
    maps = [y.detach().to(dtype) for y in three_maps((2, 2, 2))]
    expected = made_as_a_whole([y.float() for y in maps])
    rows = MergedInput(InputMaps(*maps)).rows(0, len(expected))
    assert rows.dtype == dtype
    torch.testing.assert_close(rows.float(), expected, rtol=torch.finfo(dtype).eps * 2, atol=1e-2)
