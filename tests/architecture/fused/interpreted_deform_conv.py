"""Triton's deformable convolution on a processor, in Triton's interpreter.

`test_deform_conv_triton.py` runs these tests in a process of their own, since Triton decides at its
import whether it interprets: TRITON_INTERPRET=1.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import triton.language as tl
from torch.utils.flop_counter import FlopCounterMode
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from nnunetv2_s2ca.architecture import fused
from nnunetv2_s2ca.architecture.deform_conv import (
    DeformConv3d,
    deform_conv3d,
    deform_conv3d_formula,
)
from nnunetv2_s2ca.architecture.fused import deform_conv_triton as operation
from nnunetv2_s2ca.architecture.fused.deform_conv_triton import deform_conv_triton
from tests.architecture.test_deform_conv import arguments as tensors_without_attention
from tests.architecture.test_deform_conv import reference


@pytest.fixture(autouse=True)
def all_taps_in_one_group(request, monkeypatch):
    """Which the interpreter, slow as it is, has done 14 times sooner; none of a test's own."""
    if "sizes_as_on_a_card" not in request.fixturenames:
        monkeypatch.setattr(operation, "PRODUCT_TERMS", 64)
        monkeypatch.setattr(operation, "BACKWARD_VOXELS", operation.FORWARD_VOXELS)


@pytest.fixture
def sizes_as_on_a_card():
    """Blocks of voxels and groups of taps as they are."""


@pytest.fixture
def products_of_bfloat16(monkeypatch):
    """Let the interpreter multiply bf16 numbers, where Triton 3.8's multiplies their bits."""
    interpreted = InterpreterBuilder.create_dot

    def product(builder, left, right, *others):
        if left.dtype.scalar == tl.bfloat16:
            left, right = (
                TensorHandle((y.data.astype(np.uint32) << 16).view(np.float32), tl.float32)
                for y in (left, right)
            )
        return interpreted(builder, left, right, *others)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", product)


@pytest.fixture
def use_kernel(monkeypatch):
    """Let the network use the kernel on a processor."""
    monkeypatch.setattr(fused, "sampling_has_kernel", lambda *_: True)
    monkeypatch.setattr(fused, "sample_by_kernel", deform_conv_triton)


def tensors(size=(3, 4, 2), *, batch=1, channels=2, outputs=3, spread=1.0):
    """x, offset, weight and attention in fp64, with values that every dtype can hold."""
    torch.manual_seed(0)
    return [
        y.bfloat16().double()
        for y in (
            torch.randn(batch, channels, *size),
            spread * torch.randn(batch, 81, *size),
            torch.randn(outputs, channels * 27),
            0.5 + torch.rand(batch, 1, *size),
        )
    ]


def formula(x, offset, weight, attention=None):
    return deform_conv3d_formula(x, offset if attention is None else offset * attention, weight)


def values_and_gradients(path, inputs, *, dtype=torch.float64):
    """Output, and gradients of all inputs for a fixed gradient of it."""
    inputs = [y.detach().to(dtype).requires_grad_() for y in inputs]
    out = path(*inputs)
    way = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
    return [out.detach(), *torch.autograd.grad(out, inputs, way.to(out.dtype))]


def assert_close_to_formula(inputs, *, dtype=torch.float32, tolerance=1e-5, path=None):
    got = values_and_gradients(path or deform_conv_triton, inputs, dtype=dtype)
    expected = values_and_gradients(formula, inputs)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == dtype
        scale = theirs.abs().max().clamp(min=1e-6).item()
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=tolerance * scale)


@pytest.mark.usefixtures("sizes_as_on_a_card")
def test_with_the_blocks_of_a_card():
    assert_close_to_formula(tensors((2, 4, 5), channels=8))


@pytest.mark.parametrize("size", [(5, 6, 7), (1, 9, 1), (1, 1, 1)])
@pytest.mark.parametrize("spread", [0.3, 4.0])
def test_odd_sizes_and_offsets_beyond_every_border(size, spread):
    assert_close_to_formula(tensors(size, spread=spread))


def test_values_are_those_of_the_formula_written_voxel_by_voxel():
    x, offset, weight = tensors_without_attention()
    out = deform_conv_triton(*(y.float() for y in (x, offset, weight)))
    expected = reference(x[0], offset[0], weight)
    torch.testing.assert_close(out[0].double(), expected, rtol=1e-5, atol=1e-5)


def test_many_blocks_programs_and_samples(monkeypatch):
    for name, value in (("FORWARD_VOXELS", 16), ("BACKWARD_VOXELS", 16), ("BACKWARD_BLOCKS", 2)):
        monkeypatch.setattr(operation, name, value)
    assert_close_to_formula(tensors((3, 5, 5), batch=2))


@pytest.mark.parametrize(("channels", "outputs"), [(1, 1), (3, 20), (5, 16)])
def test_channels_that_are_no_power_of_two(channels, outputs):
    assert_close_to_formula(tensors((2, 3, 2), channels=channels, outputs=outputs))


def test_without_attention():
    assert_close_to_formula(tensors()[:3])


@pytest.mark.usefixtures("products_of_bfloat16")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_adds_up_in_fp32(dtype):
    """Each gradient is rounded a few times, never as often as there are terms to add."""
    assert_close_to_formula(tensors(), dtype=dtype, tolerance=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("of_offset", [False, True])
@pytest.mark.parametrize("of_x", [False, True])
def test_channels_last(of_x, of_offset):
    """The output has the layout of x, each gradient that of its argument, and of any gradient."""
    x, offset, weight, attention = (y.float() for y in tensors((2, 3, 4), batch=2))
    layouts = [
        torch.channels_last_3d if last else torch.contiguous_format for last in (of_x, of_offset)
    ]
    x, offset = (
        y.contiguous(memory_format=layout).requires_grad_()
        for y, layout in zip((x, offset), layouts, strict=True)
    )
    inputs = [x, offset, weight, attention]
    out = deform_conv_triton(*inputs)
    assert out.is_contiguous(memory_format=layouts[0])
    way = torch.randn(out.shape).contiguous(memory_format=layouts[1])
    grads = torch.autograd.grad(out, (x, offset), way)
    expected = formula(*inputs)
    torch.testing.assert_close(out, expected)
    for grad, layout, theirs in zip(
        grads, layouts, torch.autograd.grad(expected, (x, offset), way), strict=True
    ):
        assert grad.is_contiguous(memory_format=layout)
        torch.testing.assert_close(grad, theirs, rtol=1e-4, atol=1e-4)


def test_views_in_no_known_layout_are_copied():
    x, offset, weight, attention = tensors((2, 3, 2))
    assert_close_to_formula(
        (x, offset, weight, attention),
        path=lambda x, offset, weight, attention: deform_conv_triton(
            x.mT.contiguous().mT,
            offset.repeat_interleave(2, dim=4)[..., ::2],
            weight.T.contiguous().T,
            attention.mT.contiguous().mT,
        ),
    )


@pytest.mark.parametrize("move", [1e9, -1e9, float("inf"), -float("inf")])
def test_offsets_that_fit_no_integer_point_outside(move):
    x, offset, weight, _ = (y.float().requires_grad_() for y in tensors())
    out = deform_conv_triton(x, torch.full_like(offset, move).requires_grad_(), weight)
    assert out.abs().max() == 0
    grads = torch.autograd.grad(out.sum(), (x, weight))
    assert all(grad.abs().max() == 0 for grad in grads)


def test_last_layer_reaches_one_voxel_further_out():
    x = torch.ones(1, 1, 2, 2, 2)
    weight = torch.zeros(1, 27)
    weight[0, 13] = 1  # the middle tap
    offset = torch.zeros(1, 81, 2, 2, 2)
    offset[:, 13] = 0.9  # along H: voxel 0 goes to 0.9, voxel 1 to 1.9, which becomes 1
    torch.testing.assert_close(deform_conv_triton(x, offset, weight), x)
    offset[:, 13] = -0.1  # voxel 0 goes to −0.1, which becomes −1, outside
    out = deform_conv_triton(x, offset, weight)
    assert out[0, 0, 0].abs().max() == 0
    torch.testing.assert_close(out[0, 0, 1], torch.ones(2, 2))


def test_no_gradient_reaches_offsets_that_point_outside():
    x, offset, weight, attention = (y.float() for y in tensors())
    offset[:, :27] = 50.0
    offset.requires_grad_()
    deform_conv_triton(x, offset, weight, attention).sum().backward()
    assert offset.grad[:, :27].abs().max() == 0
    assert offset.grad[:, 27:].abs().max() == 0  # outside along H, whatever W and D are


@pytest.mark.parametrize("given", [3, 4])
def test_pytorch_finds_nothing_wrong_with_the_registration(given):
    inputs = [y.float().requires_grad_() for y in tensors(batch=2)[:given]]
    flags = [1] * given + [0] * (4 - given)
    torch.library.opcheck(torch.ops.s2ca.deform_conv_triton.default, (inputs, flags, [0]))


@pytest.mark.usefixtures("use_kernel")
def test_compiled_into_one_graph():
    torch.compiler.reset()
    compiled = torch.compile(deform_conv3d, backend="aot_eager", fullgraph=True)
    assert_close_to_formula(tensors(), path=compiled)


@pytest.mark.usefixtures("use_kernel", "products_of_bfloat16")
@pytest.mark.parametrize("compiled", [False, True])
def test_module_under_autocast_is_near_the_formula_in_fp64(compiled):
    torch.manual_seed(0)
    module = DeformConv3d(24, reduced_channels=2)
    exact = copy.deepcopy(module).double()
    x = torch.randn(1, 24, 3, 4, 5)
    torch.compiler.reset()
    run = torch.compile(module, backend="aot_eager", fullgraph=True) if compiled else module
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = run(x)
    assert out.dtype == torch.bfloat16
    reduced = exact.reduce(x.double())
    offset = exact.offset(reduced)
    attention = exact.spatial_attention(offset)
    expected = formula(reduced, offset, exact.kernel.weight.flatten(1), attention)
    for y in (out, expected):
        (y.double() * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum().backward()
    for ours, theirs in [
        (out, expected),
        *((p.grad, q.grad) for p, q in zip(module.parameters(), exact.parameters(), strict=True)),
    ]:
        assert (ours.double() - theirs).norm() < 0.03 * theirs.norm()


def test_flops_are_those_of_the_product():
    x, offset, weight, attention = (y.float().requires_grad_() for y in tensors(batch=2))
    with FlopCounterMode(display=False) as counter:
        out = deform_conv_triton(x, offset, weight, attention)
    assert counter.get_total_flops() == 2 * out.numel() * weight.shape[1]
    with FlopCounterMode(display=False) as counter:
        out.sum().backward()
    assert counter.get_total_flops() == 4 * out.numel() * weight.shape[1]
