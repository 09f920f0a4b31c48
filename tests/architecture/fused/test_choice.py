"""Where the fast forms are used."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_s2ca.architecture.fused import choice

LARGE = (1, 8, 128, 128, 128)


def empty(shape, device="meta") -> torch.Tensor:
    return torch.empty(shape, device=device)


@pytest.mark.parametrize(
    "chosen",
    [
        lambda device: choice.block_is_fused(empty(LARGE, device)),
        lambda device: choice.merging_is_fused(empty(LARGE, device), empty(LARGE, device)),
        lambda device: choice.sampling_is_fused(empty(LARGE, device), taps=27),
        lambda device: choice.computes_again(empty(LARGE, device), kept_bytes=10**9),
    ],
    ids=["block", "merging", "sampling", "computing again"],
)
def test_large_maps_take_their_fast_form_on_a_processor_alone(chosen):
    assert chosen("cpu")
    assert not chosen("meta")


def test_small_maps_take_the_formula():
    small = torch.empty(8, 2, 4, 4, 4)
    assert not choice.block_is_fused(small)
    assert not choice.merging_is_fused(small, small)
    assert not choice.sampling_is_fused(small, taps=27)
    assert not choice.computes_again(small, kept_bytes=10**6)


def test_nothing_is_computed_again_without_gradients():
    with torch.no_grad():
        assert not choice.computes_again(torch.empty(1), kept_bytes=10**9)
