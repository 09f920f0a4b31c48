"""The deformable convolution against one written voxel by voxel, from its formula."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from nnunetv2_s2ca.architecture.deform_conv import DeformConv3d, deform_conv3d
from tests.architecture.tensor_sizes import LargestTensor


def reference(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """The formula, one value after the other, for one sample."""
    channels, *size = x.shape
    out = [[] for _ in weight]
    for voxel in itertools.product(*map(range, size)):
        sampled = []
        for n, tap in enumerate(itertools.product((-1, 0, 1), repeat=3)):
            point = []
            for axis in range(3):
                p = voxel[axis] + tap[axis] + offset[axis * 27 + n][voxel]
                if p < 0 or p > size[axis] - 1:
                    p = p.floor()
                point.append(p)
            sampled.append([_trilinear(volume, point) for volume in x])
        columns = torch.stack([sampled[n][c] for c in range(channels) for n in range(27)])
        for o, row in enumerate(weight):
            out[o].append(row @ columns)
    return torch.stack([torch.stack(values).reshape(size) for values in out])


def _trilinear(volume: Tensor, point: list[Tensor]) -> Tensor:
    value = volume.new_zeros(())
    low = [math.floor(p.item()) for p in point]
    for corner in itertools.product((0, 1), repeat=3):
        index = tuple(a + b for a, b in zip(low, corner, strict=True))
        if all(0 <= i < n for i, n in zip(index, volume.shape, strict=True)):
            share = math.prod(1 - (p - i).abs() for p, i in zip(point, index, strict=True))
            value = value + share * volume[index]
    return value


def arguments(size=(3, 4, 2), *, batch=1, spread=1.0, dtype=torch.float64):
    torch.manual_seed(0)
    x = torch.randn(batch, 2, *size, dtype=dtype)
    # spread enough for positions beyond every border, and by more than a voxel
    offset = spread * torch.randn(batch, 81, *size, dtype=dtype)
    weight = torch.randn(3, 54, dtype=dtype)
    return x, offset, weight


def attended_arguments(size=(3, 4, 2), *, batch=1):
    tensors = arguments(size, batch=batch)
    return *tensors, 0.5 + torch.rand(batch, 1, *size, dtype=torch.float64)


def expect(x, offset, weight, attention=None):
    """The reference's values and gradients, for a batch of one."""
    tensors = [t.requires_grad_() for t in (x, offset, weight, attention) if t is not None]
    moves = offset[0] if attention is None else offset[0] * attention[0]
    out = reference(x[0], moves, weight)[None]
    return out.detach(), torch.autograd.grad((out**2).sum(), tensors)


@pytest.fixture(scope="module")
def expected():
    """With positions on both sides of every border."""
    return expect(*arguments())


@pytest.fixture(scope="module")
def expected_with_attention():
    return expect(*attended_arguments())


def run(path, *tensors):
    tensors = [t.requires_grad_() for t in tensors]
    out = path(*tensors)
    return out.detach(), torch.autograd.grad((out**2).sum(), tensors)


@pytest.mark.parametrize(
    "backend", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("way", ["as_large_maps", "as small maps", "as_other_devices"])
def test_values_and_gradients_are_the_formulas(
    backend, way, expected, expected_with_attention, request
):
    if way != "as small maps":
        request.getfixturevalue(way)
    path = deform_conv3d
    if backend != "eager":
        torch.compiler.reset()
        path = torch.compile(deform_conv3d, backend=backend, fullgraph=True)
    for tensors, wanted in (
        (arguments(), expected),
        (attended_arguments(), expected_with_attention),
    ):
        out, grads = run(path, *tensors)
        torch.testing.assert_close(out, wanted[0])
        for got, want in zip(grads, wanted[1], strict=True):
            torch.testing.assert_close(got, want)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.usefixtures("both_sizes")
def test_memory_format_of_the_input_changes_nothing(memory_format, expected):
    x, offset, weight = arguments()
    out = deform_conv3d(
        x.contiguous(memory_format=memory_format),
        offset.contiguous(memory_format=memory_format),
        weight,
    )
    torch.testing.assert_close(out, expected[0])


@pytest.mark.usefixtures("both_sizes")
def test_without_offsets_it_is_a_convolution():
    x, offset, weight = arguments((4, 5, 6), batch=2)
    out = deform_conv3d(x, torch.zeros_like(offset), weight)
    expected = torch.nn.functional.conv3d(x, weight.reshape(3, 2, 3, 3, 3), padding=1)
    torch.testing.assert_close(out, expected)


@pytest.mark.usefixtures("both_sizes")
def test_no_gradient_reaches_offsets_that_point_outside():
    x, offset, weight = arguments()
    offset[:, :27] = 50.0
    offset.requires_grad_()
    deform_conv3d(x, offset, weight).sum().backward()
    assert offset.grad[:, :27].abs().max() == 0


@pytest.mark.usefixtures("both_sizes")
def test_last_layer_reaches_one_voxel_further_out():
    x = torch.ones(1, 1, 2, 2, 2, dtype=torch.float64)
    weight = torch.zeros(1, 27, dtype=torch.float64)
    weight[0, 13] = 1  # the middle tap
    offset = torch.zeros(1, 81, 2, 2, 2, dtype=torch.float64)
    offset[:, 13] = 0.9  # along H: voxel 0 goes to 0.9, voxel 1 to 1.9, which becomes 1
    torch.testing.assert_close(deform_conv3d(x, offset, weight), x)
    offset[:, 13] = -0.1  # voxel 0 goes to −0.1, which becomes −1, outside
    out = deform_conv3d(x, offset, weight)
    assert out[0, 0, 0].abs().max() == 0
    torch.testing.assert_close(out[0, 0, 1], torch.ones(2, 2, dtype=torch.float64))


@pytest.mark.usefixtures("both_sizes")
def test_gradcheck_away_from_the_border():
    x, offset, weight = arguments((3, 3, 4))
    # between two voxels on every axis, inside the volume, far from the kinks at whole voxels
    base = torch.stack(torch.meshgrid(*map(torch.arange, (3, 3, 4)), indexing="ij"))
    taps = torch.tensor(list(itertools.product((-1, 0, 1), repeat=3)))
    position = base[:, None] + taps.T[:, :, None, None, None]
    last = torch.tensor([2, 2, 3])[:, None, None, None, None]
    target = position.clamp(min=0).minimum(last - 1) + 0.2 + 0.6 * torch.rand(position.shape)
    offset = (target - position).double().reshape(1, 81, 3, 3, 4)
    tensors = [t.requires_grad_() for t in (x, offset, weight)]
    assert torch.autograd.gradcheck(deform_conv3d, tensors, fast_mode=True)


@pytest.mark.usefixtures("both_sizes")
def test_samples_of_a_batch_do_not_mix():
    x, offset, weight = arguments(batch=3)
    together = deform_conv3d(x, offset, weight)
    for i in range(3):
        alone = deform_conv3d(x[i : i + 1], offset[i : i + 1], weight)
        torch.testing.assert_close(together[i : i + 1], alone)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("both_sizes")
def test_positions_keep_their_fraction_in_half_precision(dtype):
    """At voxel 2500 fp16 is spaced by 2 and bf16 by 16, so a half-voxel offset would be lost."""
    length = 2501
    x = torch.arange(length, dtype=torch.float32).remainder(4).reshape(1, 1, 1, 1, -1)
    offset = torch.zeros(1, 81, 1, 1, length)
    offset[:, 54 + 13] = -0.5  # along D, the middle tap
    weight = torch.zeros(1, 27)
    weight[0, 13] = 1
    with torch.autocast("cpu", dtype=dtype):
        out = deform_conv3d(x.to(dtype), offset.to(dtype), weight)
    assert out.dtype == dtype
    expected = (x[..., 1:] + x[..., :-1]) / 2
    np.testing.assert_array_equal(out[..., 1:].float(), expected)


@pytest.mark.usefixtures("as_large_maps")
def test_no_tensor_is_larger_than_the_offsets():
    """27 · 3 values a voxel is what there must be; the 27 · C samples must not exist together."""
    module = DeformConv3d(24, reduced_channels=8)
    x = torch.randn(1, 24, 12, 12, 12, requires_grad=True)
    with LargestTensor() as largest:
        module(x).sum().backward()
    assert largest.numel <= 81 * 12**3
