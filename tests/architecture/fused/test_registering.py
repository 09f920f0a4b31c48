"""What the fused operations have in common, on the smallest operation there can be."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_s2ca.architecture.fused.registering import FusedOperation
from nnunetv2_s2ca.architecture.residual_block import ResidualBlock
from tests.architecture.tensor_sizes import LargestTensor


class Pair(NamedTuple):
    left: Tensor
    right: Tensor | None


class Arguments(NamedTuple):
    x: Tensor
    pair: Pair


class Options(NamedTuple):
    power: int

    @property
    def outputs(self) -> int:
        return 1


seen_by_backward = []


def _forward(arguments: Arguments, options: Options) -> list[Tensor]:
    x, (left, right) = arguments
    x.new_zeros(1000)  # large, and seen from inside only
    total = x * left + (0 if right is None else right)
    return [total**options.power, total]


def _backward(arguments, options, kept, grads) -> Arguments:
    (total,) = kept
    seen_by_backward.append(grads)
    grad = grads[0] * options.power * total ** (options.power - 1)
    x, (left, right) = arguments
    return Arguments(grad * left, Pair(grad * x, None if right is None else grad.clone()))


def _fake(arguments, options) -> list[Tensor]:
    return [torch.empty_like(arguments.x) for _ in range(2)]


power = FusedOperation(
    "test_power", Arguments, Options, forward=_forward, backward=_backward, fake=_fake
)


def call(x: Tensor, left: Tensor, right: Tensor | None) -> Tensor:
    (out,) = power(Arguments(x, Pair(left, right)), Options(3))
    return out


def tensors(count: int) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(4, dtype=torch.float64).requires_grad_() for _ in range(count)]


@pytest.mark.parametrize("mode", ["eager", "compiled"])
@pytest.mark.parametrize("count", [2, 3])
def test_arguments_may_be_missing_and_gradients_find_theirs(count, mode):
    inputs = tensors(count)
    run = call
    if mode == "compiled":
        torch.compiler.reset()
        run = torch.compile(call, fullgraph=True, backend="aot_eager")
    out = run(*inputs, *[None] * (3 - count))
    x, left, *right = inputs
    expected = (x * left + (right[0] if right else 0)) ** 3
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(
        torch.autograd.grad(out.sum(), inputs), torch.autograd.grad(expected.sum(), inputs)
    )


def test_what_is_kept_gets_no_gradient_of_zeros():
    """The kept maps are outputs to PyTorch, which would make a map of zeros for each."""
    seen_by_backward.clear()
    inputs = tensors(3)
    call(*inputs).sum().backward()
    assert [len(grads) for grads in seen_by_backward] == [1]


def test_pytorch_finds_nothing_wrong_with_the_registration():
    x, left, right = tensors(3)
    torch.library.opcheck(
        torch.ops.s2ca.test_power.default, ([x, left, right], [1, 1, 1], [3]), raise_exception=True
    )


@pytest.mark.parametrize("attended", [0, 1])
def test_pytorch_finds_nothing_wrong_with_the_deformable_convolution(attended):
    torch.manual_seed(0)
    x = torch.randn(2, 2, 3, 4, 2).requires_grad_()
    offset = torch.randn(2, 3, 27, 3, 4, 2).requires_grad_()
    weight = torch.randn(3, 2, 27).requires_grad_()
    attention = [torch.rand(2, 1, 3, 4, 2).requires_grad_()] * attended
    torch.library.opcheck(
        torch.ops.s2ca.deform_conv.default,
        ([x, offset, weight, *attention], [1, 1, 1, attended], []),
    )


def test_operations_are_watched_from_inside():
    with LargestTensor() as largest:
        call(*tensors(3))
    assert largest.numel == 1000


@pytest.mark.usefixtures("as_large_maps")
@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2)])
def test_a_block_counts_as_many_operations_as_its_formula(stride):
    block = ResidualBlock(4, 6, stride=stride)
    x = torch.randn(2, 4, 8, 8, 8).requires_grad_()
    flops = []
    for run in (block, lambda x: block.formula(x)[0]):
        with FlopCounterMode(display=False) as counter:
            run(x)
        flops.append(counter.get_total_flops())
    assert flops[0] == flops[1]
    with FlopCounterMode(display=False) as counter:
        block(x).sum().backward()
    assert counter.get_total_flops() == 3 * flops[1]
