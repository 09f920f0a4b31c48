"""The residual block slab by slab, against its formula."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_s2ca.architecture.fused import slabs
from nnunetv2_s2ca.architecture.merging import merge
from nnunetv2_s2ca.architecture.residual_block import ResidualBlock
from tests.architecture.comparing import assert_same
from tests.architecture.tensor_sizes import LargestTensor


@pytest.fixture(params=[2**20, 64], ids=["one slab", "many slabs"], autouse=True)
def _slabs(request, monkeypatch, as_large_maps):
    monkeypatch.setattr(slabs, "SLAB_VALUES", request.param)


CASES = {
    "identity": (6, 6, (1, 1, 1), (8, 6, 4), 1),
    "projection": (4, 6, (1, 1, 1), (7, 6, 5), 2),
    "stride 2": (4, 8, (2, 2, 2), (8, 10, 12), 2),
    "odd size": (4, 8, (2, 2, 2), (7, 9, 5), 1),
    "anisotropic": (4, 8, (1, 2, 2), (6, 8, 4), 1),
}


@pytest.mark.parametrize("with_stem", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_the_formulas(case, with_stem):
    in_channels, out_channels, stride, size, batch = CASES[case]
    torch.manual_seed(0)
    block = ResidualBlock(in_channels, out_channels, stride=stride).double()
    x = (10 + torch.randn(batch, in_channels, *size)).double().requires_grad_()
    got = block.forward_with_stem(x) if with_stem else (block(x),)
    assert_same(got, block.formula(x)[: len(got)], [x, *block.parameters()])


@pytest.mark.parametrize("case", ["identity", "stride 2"])
def test_compiled_values_and_gradients_are_the_formulas(case):
    in_channels, out_channels, stride, size, batch = CASES[case]
    torch.manual_seed(0)
    block = ResidualBlock(in_channels, out_channels, stride=stride).double()
    x = (10 + torch.randn(batch, in_channels, *size)).double().requires_grad_()
    torch.compiler.reset()
    compiled = torch.compile(block.forward_with_stem, fullgraph=True, backend="aot_eager")
    assert_same(compiled(x), block.formula(x), [x, *block.parameters()])
    torch.compiler.reset()
    with torch.no_grad():
        out = torch.compile(block, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(out, block.formula(x)[0].detach())


@pytest.mark.parametrize("mode", ["eager", "compiled"])
@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2)])
def test_merged_maps_give_what_their_merger_gives(mode, stride):
    torch.manual_seed(0)
    block = ResidualBlock(6, 4).double()
    fine, coarse = (6, 8, 4), tuple(n // s for n, s in zip((6, 8, 4), stride, strict=True))
    shapes = [(2, 4, *fine), (2, 1, *coarse), (2, 2, *coarse)]
    maps = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]
    run = block.forward_merged
    if mode == "compiled":
        torch.compiler.reset()
        run = torch.compile(run, fullgraph=True, backend="aot_eager")
    expected, _ = block.formula(merge(*maps))
    assert_same([run(*maps)], [expected], [*maps, *block.parameters()])


@pytest.mark.parametrize("used", ["output", "stem"])
def test_either_output_alone_has_the_formulas_gradients(used):
    torch.manual_seed(0)
    block = ResidualBlock(4, 6).double()
    x = torch.randn(2, 4, 6, 6, 6, dtype=torch.float64).requires_grad_()
    index = ["output", "stem"].index(used)
    inputs = [x, *block.unit1.parameters()]
    assert_same([block.forward_with_stem(x)[index]], [block.formula(x)[index]], inputs)


def test_without_gradients_the_values_are_the_same():
    torch.manual_seed(0)
    block = ResidualBlock(4, 6, stride=(1, 1, 1))
    x = torch.randn(2, 4, 6, 6, 6)
    expected = [t.detach() for t in block.forward_with_stem(x)]
    before = x.clone()
    with torch.inference_mode():
        got = block.forward_with_stem(x)
    torch.testing.assert_close(list(got), expected)
    torch.testing.assert_close(x, before)


def test_a_mean_far_from_zero_leaves_the_norm_exact():
    torch.manual_seed(0)
    block = ResidualBlock(4, 4, stride=(1, 1, 1))
    x = 1000 + torch.randn(1, 4, 8, 8, 8)
    with torch.no_grad():
        out = block(x)
        expected = block.double().formula(x.double())[0]
    assert (out - expected).abs().max() < 2e-2  # of fp32 at 1000: 6e-5, times the norm's factor


def test_backward_can_run_twice():
    block = ResidualBlock(4, 6, stride=(1, 1, 1))
    x = torch.randn(1, 4, 6, 6, 6, requires_grad=True)
    out = block(x)
    first = torch.autograd.grad(out.sum(), x, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(out.sum(), x)[0], first)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_trains_in_half_precision(dtype):
    torch.manual_seed(0)
    block = ResidualBlock(4, 6, stride=(2, 2, 2))
    x = torch.randn(1, 4, 8, 8, 8, requires_grad=True)
    expected = block(x)
    with torch.autocast("cpu", dtype=dtype):
        out = block(x)
    out.float().square().mean().backward()
    assert out.dtype == dtype
    assert (out.float() - expected).abs().max() < 0.2
    assert all(p.grad.isfinite().all() for p in block.parameters())
    assert x.grad.dtype == torch.float32


def test_compiled_autocast_gives_what_eager_autocast_gives():
    torch.manual_seed(0)
    block = ResidualBlock(4, 6)
    x = torch.randn(1, 4, 8, 8, 8)
    torch.compiler.reset()
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(compiled(x), block(x))


def test_merged_maps_train_in_half_precision():
    torch.manual_seed(0)
    block = ResidualBlock(6, 4)
    maps = [torch.randn(1, c, n, n, n).requires_grad_() for c, n in ((4, 8), (1, 4), (2, 4))]
    expected = block.forward_merged(*maps)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = block.forward_merged(*(y.bfloat16() for y in maps))
    out.float().square().mean().backward()
    assert (out.float() - expected).abs().max() < 0.2
    assert all(p.grad.isfinite().all() for p in (*block.parameters(), *maps))


def test_no_tensor_is_larger_than_input_or_output():
    block = ResidualBlock(24, 8, stride=(1, 1, 1))
    x = torch.randn(1, 24, 16, 16, 16, requires_grad=True)
    with LargestTensor() as largest:
        block(x).sum().backward()
    # a slab brings its two neighbouring rows along, and every slab of tests may be the whole
    assert x.numel() <= largest.numel <= x.numel() * 18 / 16
