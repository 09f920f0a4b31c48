"""The residual block computed slab by slab, against its layers one by one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from nnunetv2_s2ca.architecture import paths, tiled_block
from nnunetv2_s2ca.architecture.blocks import ResidualBlock, merge
from tests.architecture.tensor_sizes import LargestTensor


def layer_by_layer(block: ResidualBlock, x: Tensor) -> tuple[Tensor, Tensor]:
    stem = block.unit1(x)
    return block.act(block.unit2(stem) + block.shortcut(x)), stem


@pytest.fixture(params=[2**20, 64], ids=["one slab", "many slabs"], autouse=True)
def _slabs(request, monkeypatch):
    """Slabs for the small maps of these tests, too."""
    monkeypatch.setattr(tiled_block, "ONE_SLAB_VALUES", 0)
    monkeypatch.setattr(paths, "LAYERWISE_VALUES", 0)
    monkeypatch.setattr(paths, "MERGED_VALUES", 0)
    monkeypatch.setattr(tiled_block, "SLAB_VALUES", request.param)


CASES = {
    "identity": (6, 6, (1, 1, 1), (8, 6, 4), 1),
    "projection": (4, 6, (1, 1, 1), (7, 6, 5), 2),
    "stride 2": (4, 8, (2, 2, 2), (8, 10, 12), 2),
    "odd size": (4, 8, (2, 2, 2), (7, 9, 5), 1),
    "anisotropic": (4, 8, (1, 2, 2), (6, 8, 4), 1),
}


@pytest.mark.parametrize("with_stem", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_the_layers(case, with_stem):
    in_channels, out_channels, stride, size, batch = CASES[case]
    torch.manual_seed(0)
    block = ResidualBlock(in_channels, out_channels, stride=stride).double()
    x = (10 + torch.randn(batch, in_channels, *size)).double().requires_grad_()
    got = block.forward_with_stem(x) if with_stem else (block(x),)
    compare_with_layers(block, x, got)


@pytest.mark.parametrize("written_out", [False, True])
@pytest.mark.parametrize("case", ["identity", "stride 2"])
def test_compiled_values_and_gradients_are_the_layers(case, written_out, monkeypatch):
    in_channels, out_channels, stride, size, batch = CASES[case]
    torch.manual_seed(0)
    block = ResidualBlock(in_channels, out_channels, stride=stride).double()
    x = (10 + torch.randn(batch, in_channels, *size)).double().requires_grad_()
    if written_out:  # as on a GPU
        monkeypatch.setattr(paths, "written_out_for_compiler", lambda x: True)
    torch.compiler.reset()
    compiled = torch.compile(block.forward_with_stem, fullgraph=True, backend="aot_eager")
    compare_with_layers(block, x, compiled(x))
    torch.compiler.reset()
    with torch.no_grad():
        out = torch.compile(block, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(out, layer_by_layer(block, x)[0].detach())


@pytest.mark.parametrize("mode", ["eager", "compiled", "written out"])
@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2)])
def test_merged_maps_give_what_their_merger_gives(mode, stride, monkeypatch):
    torch.manual_seed(0)
    block = ResidualBlock(6, 4).double()
    fine, coarse = (6, 8, 4), tuple(n // s for n, s in zip((6, 8, 4), stride, strict=True))
    shapes = [(2, 4, *fine), (2, 1, *coarse), (2, 2, *coarse)]
    maps = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]
    run = block.forward_merged
    if mode != "eager":
        torch.compiler.reset()
        run = torch.compile(run, fullgraph=True, backend="aot_eager")
    if mode == "written out":
        monkeypatch.setattr(paths, "written_out_for_compiler", lambda x: True)
    compare_with_layers(block, merge(*maps), (run(*maps),), maps)


def compare_with_layers(
    block: ResidualBlock, x: Tensor, got: Sequence[Tensor], maps: Sequence[Tensor] = ()
) -> None:
    """Compare values and gradients of `got`, the block's output and perhaps its stem feature.

    Gradients of `maps`, from which x was made, or of x itself, and of the weights.
    """
    expected = layer_by_layer(block, x)[: len(got)]
    inputs = [*(maps or [x]), *block.parameters()]
    ways = [torch.randn_like(out) for out in expected]
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours, theirs in zip(
        torch.autograd.grad(got, inputs, ways),
        torch.autograd.grad(expected, inputs, ways),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_exported_program_needs_no_operation_of_ours():
    block = ResidualBlock(4, 6, stride=(2, 2, 2)).eval()
    program = torch.export.export(block, (torch.randn(1, 4, 8, 8, 8),))
    assert not [node for node in program.graph.nodes if "s2ca" in str(node.target)]


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
        expected = layer_by_layer(block.double(), x.double())[0]
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
    assert largest.numel <= x.numel() * 18 / 16
