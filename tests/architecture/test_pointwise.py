"""Pointwise convolutions against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnunetv2_s2ca.architecture.pointwise import Mlp, PointwiseConv2d, PointwiseConv3d
from tests.architecture.comparing import assert_same


@pytest.fixture(params=["processor", "other devices"], autouse=True)
def _device(request):
    if request.param == "other devices":
        request.getfixturevalue("as_other_devices")


@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_pytorchs_in_3d(stride, memory_format, bias):
    torch.manual_seed(0)
    pointwise = PointwiseConv3d(3, 5, stride=stride, bias=bias).double()
    conv = nn.Conv3d(3, 5, 1, stride=stride, bias=bias).double()
    conv.load_state_dict(pointwise.state_dict())
    x = torch.randn(2, 3, 5, 4, 6, dtype=torch.float64).to(memory_format=memory_format)
    x.requires_grad_()
    expected = torch.autograd.grad(conv(x).square().sum(), [x, *conv.parameters()])
    got = torch.autograd.grad(pointwise(x).square().sum(), [x, *pointwise.parameters()])
    torch.testing.assert_close(pointwise(x), conv(x))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_it_is_pytorchs_in_2d(memory_format):
    torch.manual_seed(0)
    pointwise = PointwiseConv2d(3, 5).double()
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64).to(memory_format=memory_format)
    x.requires_grad_()
    inputs = [x, *pointwise.parameters()]
    assert_same([pointwise(x)], [nn.Conv2d.forward(pointwise, x)], inputs)


def test_an_mlp_is_two_of_them_around_gelu():
    torch.manual_seed(0)
    mlp = Mlp(3).double()
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64).requires_grad_()
    hidden = nn.functional.gelu(nn.Conv2d.forward(mlp.fc1, x))
    assert_same([mlp(x)], [nn.Conv2d.forward(mlp.fc2, hidden)], [x, *mlp.parameters()])
    assert mlp.fc1.weight.shape == (12, 3, 1, 1)
