"""Counting what is launched, and the backward pass without PyTorch's engine."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.tracing import Launches, backward
from nnunetv2_s2ca.architecture.fused import choice
from tests.architecture.test_s2ca_net import small_input, small_network


def test_backward_gives_what_pytorch_gives(monkeypatch):
    monkeypatch.setattr(choice, "BLOCK_VALUES", 2**30)  # whose fused form is one for the engine
    network = small_network().train().double()
    outputs = network(small_input(batch=2).double())
    grads = [torch.randn_like(y) for y in outputs]
    parameters = list(network.parameters())
    expected = torch.autograd.grad(outputs, parameters, grads, retain_graph=True)
    found = backward(outputs, grads)
    torch.testing.assert_close([found[p] for p in parameters], list(expected))


def test_backward_undoes_broadcasting_and_adds_up():
    x, bias = torch.randn(3, 4, requires_grad=True), torch.randn(4, requires_grad=True)
    found = backward([(x + bias) * x], [torch.ones(3, 4)])
    torch.testing.assert_close(found[x], 2 * x + bias)
    torch.testing.assert_close(found[bias], x.sum(0))


def counted(compute) -> tuple[int, int]:
    with Launches() as launches:
        compute()
    return launches.total.launches, launches.total.nbytes


def test_views_and_empty_tensors_launch_nothing():
    x = torch.randn(4, 6)
    assert counted(lambda: x.T.unflatten(0, (2, 3))[0].detach()) == (0, 0)
    assert counted(lambda: torch.empty_like(x)) == (0, 0)


def test_operands_count_once_each():
    x, row = torch.randn(4, 6), torch.randn(6)
    assert counted(lambda: x + row) == (1, 4 * (24 + 6 + 24))
    assert counted(lambda: x + row.expand(4, 6)) == (1, 4 * (24 + 6 + 24))


def test_bias_and_gradients_of_a_convolution_are_launches_of_their_own():
    conv = nn.Conv1d(2, 3, 1)
    x, y = torch.randn(1, 2, 5, requires_grad=True), 15
    once = 4 * (10 + 6 + y)
    with torch.no_grad():
        assert counted(lambda: F.conv1d(x, conv.weight)) == (1, once)
        assert counted(lambda: conv(x)) == (2, once + 4 * (3 + 2 * y))
    out, grad = conv(x), torch.ones(1, 3, 5)
    launches, nbytes = counted(lambda: backward([out], [grad]))
    assert launches == 3
    # the gradient thrice, input and weight, and their gradients and the bias's
    assert nbytes == 4 * (3 * y + 2 * 10 + 2 * 6 + 3)


def test_copies_and_synchronisations_are_told():
    with Launches() as launches:
        torch.ones(1).item()
        torch.ones(3).nonzero()
    assert launches.synchronisations == ["_local_scalar_dense", "nonzero"]
