"""Shifts, and the MLP that is built on them; the golden outputs hold its numbers."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_s2ca.architecture.shifted_mlp import ShiftedMLP, shift


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("channels", [5, 7, 12])
def test_each_group_moves_by_its_distance_and_zeros_come_in(axis, reverse, channels):
    x = torch.randn(2, channels, 4, 6)
    moved = shift(x, axis, reverse=reverse)
    sizes = [len(group) for group in torch.arange(channels).chunk(5)]
    for i, (before, after) in enumerate(
        zip(x.split(sizes, dim=1), moved.split(sizes, dim=1), strict=True)
    ):
        distance = (2 - i) if reverse else (i - 2)
        expected = torch.zeros_like(before)
        length = x.shape[axis] - abs(distance)
        to, start = max(distance, 0), max(-distance, 0)
        expected.narrow(axis, to, length).copy_(before.narrow(axis, start, length))
        torch.testing.assert_close(after, expected, rtol=0, atol=0)


def test_on_an_axis_of_one_voxel_all_but_the_middle_group_leaves():
    moved = shift(torch.ones(1, 5, 1, 3), 2)
    torch.testing.assert_close(moved[0, :, 0, 0], torch.tensor([0.0, 0, 1, 0, 0]))


def test_stochastic_depth_draws_for_every_slice_of_every_plane():
    module = ShiftedMLP(6, 5, embed_dim=10, depth=2).train()
    samples = []
    for block in module.blocks:
        block.drop_path.register_forward_hook(lambda *call: samples.append(len(call[2])))
    module(torch.randn(2, 6, 4, 4, 4))
    assert set(samples) == {3 * 2 * 4}


def test_rates_of_stochastic_depth_rise_to_a_tenth():
    rates = [block.drop_path.drop_prob for block in ShiftedMLP(6, 5).blocks]
    assert rates == pytest.approx([0, 0.1 / 3, 0.2 / 3, 0.1])


def test_swapped_axes_exchange_h_and_w_of_the_planes_along_w():
    torch.manual_seed(0)
    ours = ShiftedMLP(6, 5, embed_dim=10, depth=1).eval()
    theirs = ShiftedMLP(6, 5, embed_dim=10, depth=1, swap_axes=True).eval()
    theirs.load_state_dict(ours.state_dict())
    for module in (ours, theirs):  # let only the planes along W through
        module.fuse.weight.data[:, :6] = 0
        module.fuse.weight.data[:, 12:] = 0
    x = torch.randn(1, 6, 4, 4, 4)
    torch.testing.assert_close(theirs(x), ours(x).transpose(2, 3))
