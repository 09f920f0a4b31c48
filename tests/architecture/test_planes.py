"""Planes of a volume, folded and put back, one by one or as a batch."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_s2ca.architecture import planes
from nnunetv2_s2ca.architecture.global_branch import GlobalBranch
from nnunetv2_s2ca.architecture.shifted_mlp import ShiftedMLP
from tests.architecture.comparing import assert_same


@pytest.mark.parametrize(
    ("size", "groups"),
    [
        ((4, 4, 4), [[0, 1, 2]]),
        ((4, 6, 4), [[0], [1], [2]]),  # planes of 6×4 and 4×6 are not alike
        ((4, 4, 6), [[0, 1], [2]]),
        ((2, 4, 6), [[0], [1], [2]]),
    ],
)
def test_axes_whose_planes_have_one_size_go_together(size, groups):
    assert planes.axes_by_plane(size) == groups


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_folding_into_channels_puts_the_axis_behind_each_channel(axis):
    x = torch.randn(2, 3, 4, 5, 6)
    folded = planes.fold_into_channels(x, [axis])
    expected = x.movedim(axis + 2, 2).flatten(1, 2)
    torch.testing.assert_close(folded, expected, rtol=0, atol=0)
    (back,) = planes.unfold_from_channels(folded, [axis], length=x.shape[axis + 2])
    torch.testing.assert_close(back, x, rtol=0, atol=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_folding_into_the_batch_makes_each_slice_a_sample(axis):
    x = torch.randn(2, 3, 4, 5, 6)
    folded = planes.fold_into_batch(x, [axis])
    expected = x.movedim(axis + 2, 1).flatten(0, 1)
    torch.testing.assert_close(folded, expected, rtol=0, atol=0)
    (back,) = planes.unfold_from_batch(folded, [axis], length=x.shape[axis + 2])
    torch.testing.assert_close(back, x, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(4, 4, 4), (4, 4, 6)])
@pytest.mark.parametrize("kind", ["global branch", "shifted MLP"])
def test_a_batch_of_planes_gives_what_each_gives_alone(kind, size, monkeypatch):
    torch.manual_seed(0)
    module = (
        GlobalBranch(6, 5, map_size=size, embed_dim=16, depth=2)
        if kind == "global branch"
        else ShiftedMLP(6, 5, embed_dim=10, depth=2)
    )
    module = module.double().eval()
    x = torch.randn(2, 6, *size, dtype=torch.float64).requires_grad_()
    together = module(x)
    monkeypatch.setattr(planes, "axes_by_plane", lambda size: [[0], [1], [2]])
    assert_same([together], [module(x)], [x, *module.parameters()])
