"""The residual block's formula, and where its fast form replaces it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from nnunetv2_s2ca.architecture.merging import merge
from nnunetv2_s2ca.architecture.residual_block import ConvUnit, ResidualBlock
from tests.architecture.comparing import assert_same


def test_a_unit_is_two_convolutions_norm_and_prelu():
    unit = ConvUnit(4, 6, stride=(2, 1, 1)).double()
    x = torch.randn(2, 4, 6, 5, 4, dtype=torch.float64)
    y = F.conv3d(x, unit.depthwise.weight, stride=(2, 1, 1), padding=1, groups=4)
    y = torch.einsum("bchwd,oc->bohwd", y, unit.pointwise.weight.flatten(1))
    y = (y - y.mean((2, 3, 4), keepdim=True)) * torch.rsqrt(
        y.var((2, 3, 4), keepdim=True, correction=0) + 1e-5
    )
    torch.testing.assert_close(unit(x), torch.where(y > 0, y, 0.25 * y))


def test_the_shortcut_is_the_identity_where_nothing_changes():
    assert isinstance(ResidualBlock(4, 4).shortcut, torch.nn.Identity)
    assert not isinstance(ResidualBlock(4, 6).shortcut, torch.nn.Identity)
    assert not isinstance(ResidualBlock(4, 4, stride=(1, 2, 2)).shortcut, torch.nn.Identity)


@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2)])
def test_the_output_is_the_formulas_on_any_path(stride, both_sizes):
    torch.manual_seed(0)
    block = ResidualBlock(4, 6, stride=stride).double()
    x = torch.randn(2, 4, 6, 6, 6, dtype=torch.float64).requires_grad_()
    assert_same(block.forward_with_stem(x), block.formula(x), [x, *block.parameters()])


@pytest.mark.usefixtures("as_other_devices")
@pytest.mark.parametrize("compiled", [False, True])
def test_on_other_devices_the_formula_runs(compiled):
    torch.manual_seed(0)
    block = ResidualBlock(6, 4).double()
    shapes = [(2, 4, 6, 8, 4), (2, 1, 3, 4, 2), (2, 2, 3, 4, 2)]
    maps = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]
    run = block.forward_merged
    if compiled:
        torch.compiler.reset()
        run = torch.compile(run, fullgraph=True, backend="aot_eager")
    expected, _ = block.formula(merge(*maps))
    assert_same([run(*maps)], [expected], [*maps, *block.parameters()])


@pytest.mark.usefixtures("as_large_maps")
def test_an_exported_program_needs_no_operation_of_ours():
    block = ResidualBlock(4, 6, stride=(2, 2, 2)).eval()
    program = torch.export.export(block, (torch.randn(1, 4, 8, 8, 8),))
    assert not [node for node in program.graph.nodes if "s2ca" in str(node.target)]
