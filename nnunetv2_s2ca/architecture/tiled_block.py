"""The residual block slab by slab: the numbers of its layers at a fraction of their memory traffic.

At full resolution the block is bound by memory, not by arithmetic: each of its layers would write a
map of its own and the next would read it back. Here the layers run on slabs along H that fit into a
processor's cache. Only the two maps before the instance norms are written as a whole, and only they
are kept for the backward pass, which computes the rest again. `benchmarks/README.md` says what that
brings.

Inside this module a map is one sample's with its channels last, (H, W, D, C); rows count along H.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from nnunetv2_s2ca.architecture.block_input import BlockInput, Seen, block_input

# A slab has about this many values for each thread that shares it, 2 MB in fp32. Beyond
# MAX_THREADS it does not grow, so that slabs stay small beside the map.
SLAB_VALUES = 2**19
MAX_THREADS = 16
# A map of at most this many values is one slab, of which the passes share more.
ONE_SLAB_VALUES = 2**21
NORM_EPS = 1e-5

ALL = slice(None)


class UnitWeights(NamedTuple):
    """Weights of a `ConvUnit`: two convolutions, the second one's bias, and the PReLU's slope."""

    depthwise: Tensor
    pointwise: Tensor
    bias: Tensor
    slope: Tensor


def residual_block(
    maps: Sequence[Tensor],
    unit1: UnitWeights,
    unit2: UnitWeights,
    *,
    shortcut: Tensor | None,
    slope: Tensor,
    stride: Sequence[int],
    with_stem: bool,
) -> tuple[Tensor, Tensor | None]:
    """Compute a `ResidualBlock` from its weights.

    Args:
        maps: the input, (B, C, H, W, D), or the three maps that it is merged from, as
            `block_input` takes them; channels-last is the fast layout.
        unit1: weights of the first unit.
        unit2: weights of the second unit.
        shortcut: weight of the shortcut's convolution; None for the identity.
        slope: slope of the last PReLU.
        stride: stride of the first unit and of the shortcut on H, W, D.
        with_stem: return the first unit's output, too.

    Returns:
        The block's output (B, O, H / stride, …), channels-last, and the stem feature or None.
    """
    batches = [x.permute(0, 2, 3, 4, 1).contiguous() for x in maps]
    results = [
        _block(list(sample), [*unit1, *unit2], shortcut, slope, tuple(stride), with_stem)
        for sample in zip(*batches, strict=True)
    ]
    out, stem = zip(*results, strict=True)
    return _join(out), _join(stem) if with_stem else None


def _join(samples: Sequence[Tensor]) -> Tensor:
    # stacking copies, which a single sample can do without
    batch = torch.stack(samples) if len(samples) > 1 else samples[0].unsqueeze(0)
    return batch.permute(0, 4, 1, 2, 3)


def _block(
    maps: list[Tensor],
    weights: list[Tensor],
    shortcut: Tensor | None,
    slope: Tensor,
    stride: tuple[int, ...],
    with_stem: bool,
) -> tuple[Tensor, Tensor | None]:
    """The residual block of one sample, (H, W, D, C) → (H / stride, …, O), and its stem feature."""
    keep = torch.is_grad_enabled()
    if torch.compiler.is_compiling():
        out, *rest = _opaque_block(maps, weights, shortcut, slope, list(stride), with_stem, keep)
        return out, rest[0] if with_stem else None
    return _Block.apply(*maps, *weights, shortcut, slope, stride, with_stem, keep)


def _forward(
    maps: Sequence[Tensor],
    weights: Sequence[Tensor],
    shortcut: Tensor | None,
    slope: Tensor,
    stride: Sequence[int],
    with_stem: bool,
    keep: bool,
) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    """The output, the stem feature if asked for, and what `_backward` needs if it is to be kept."""
    x = block_input(maps)
    unit1, unit2 = UnitWeights(*weights[:4]), UnitWeights(*weights[4:])
    y1, norm1 = _separable_conv(x, unit1, stride)
    stem = _UnitOutput(y1, norm1, unit1)
    y2, norm2 = _separable_conv(stem, unit2, (1, 1, 1))
    norm3 = None
    if shortcut is not None:
        moments = _Moments()
        for lo, hi in _slabs(y2, x):
            moments.add(_projected(x.seen(_seen(lo, hi, stride)), shortcut, y2.dtype))
        norm3 = moments.norm()

    # if nothing is kept for a backward pass, the maps make room for what is computed from them
    out = torch.empty_like(y2) if keep else y2
    unit2_output = _UnitOutput(y2, norm2, unit2)
    for lo, hi in _slabs(y2, x):
        residual = _projected(x.seen(_seen(lo, hi, stride)), shortcut, y2.dtype)
        if norm3 is not None:
            residual = norm3(residual)
        out[lo:hi] = _prelu(unit2_output.rows(lo, hi) + residual, slope)
    stem_map = None
    if with_stem:
        stem_map = torch.empty_like(y1) if keep else y1
        for lo, hi in _slabs(y1, x):
            stem_map[lo:hi] = stem.rows(lo, hi)
    return out, stem_map, [y1, y2, *norm1, *norm2, *(norm3 or ())] if keep else []


def _backward(
    maps: Sequence[Tensor],
    weights: Sequence[Tensor],
    shortcut: Tensor | None,
    slope: Tensor,
    stride: Sequence[int],
    kept: Sequence[Tensor],
    grad: Tensor,
    grad_stem: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Gradients of the maps, the eight weights, the shortcut and the slope."""
    x = block_input(maps)
    unit1, unit2 = UnitWeights(*weights[:4]), UnitWeights(*weights[4:])
    y1, y2 = kept[:2]
    norm1, norm2 = _Norm(*kept[2:4]), _Norm(*kept[4:6])
    norm3 = None if shortcut is None else _Norm(*kept[6:])

    # 1. Back to the outputs of the norms that stand before the sum. Each pass begins with the slab
    # with which the one before ended, which is all of a small map.
    @lru_cache(maxsize=1)
    def before_sum(lo: int, hi: int) -> tuple[Tensor, ...]:
        x_seen = x.seen(_seen(lo, hi, stride))
        projected = _projected(x_seen, shortcut, y2.dtype)
        residual = projected if norm3 is None else norm3(projected)
        normed = norm2(y2[lo:hi])
        total = _prelu(normed, unit2.slope) + residual
        grad_total, grad_slope = _prelu_backward(grad[lo:hi], total, slope)
        grad_normed, grad_slope2 = _prelu_backward(grad_total, normed, unit2.slope)
        return grad_normed, grad_total, grad_slope2, grad_slope, projected, x_seen

    grad_slope, grad_slope2 = torch.zeros_like(slope), torch.zeros_like(unit2.slope)
    norm2_backward = _NormBackward(norm2)
    norm3_backward = None if norm3 is None else _NormBackward(norm3)
    for lo, hi in _slabs(y2, x):
        grad_normed, grad_total, slope2_part, slope_part, projected, _ = before_sum(lo, hi)
        grad_slope2 += slope2_part
        grad_slope += slope_part
        norm2_backward.add(grad_normed, y2[lo:hi])
        if norm3_backward is not None:
            norm3_backward.add(grad_total, projected)

    # 2. Through the shortcut and the second unit's convolutions.
    stem = _UnitOutput(y1, norm1, unit1)
    if grad_stem is not None:
        stem.grad += grad_stem
    grad_shortcut = None if shortcut is None else torch.zeros_like(shortcut)
    conv2 = _SeparableConvBackward(stem, unit2, (1, 1, 1))
    for lo, hi in reversed(_slabs(y2, x)):
        seen = _seen(lo, hi, stride)
        grad_normed, grad_total, _, _, projected, x_seen = before_sum(lo, hi)
        conv2.add(lo, hi, norm2_backward.rows(grad_normed, y2[lo:hi]))
        if norm3_backward is None:
            x.add_grad(seen, grad_total)
        else:
            grad_projected = norm3_backward.rows(grad_total, projected)
            grad_shortcut += _outer(grad_projected, x_seen.to(y2.dtype)).view_as(shortcut)
            x.add_grad(seen, grad_projected @ shortcut.flatten(1).to(grad_projected.dtype))

    # 3. Through the first unit.
    grad_slope1 = torch.zeros_like(unit1.slope)
    norm1_backward = _NormBackward(norm1)
    for lo, hi in _slabs(y1, x):
        normed = norm1(y1[lo:hi])
        grad_normed, part = _prelu_backward(stem.grad[lo:hi], normed, unit1.slope)
        stem.grad[lo:hi] = grad_normed
        grad_slope1 += part
        norm1_backward.add(grad_normed, y1[lo:hi])
    conv1 = _SeparableConvBackward(x, unit1, stride)
    for lo, hi in reversed(_slabs(y1, x)):
        conv1.add(lo, hi, norm1_backward.rows(stem.grad[lo:hi], y1[lo:hi]))

    return (
        *x.grads,
        *conv1.grads,
        grad_slope1,
        *conv2.grads,
        grad_slope2,
        grad_shortcut,
        grad_slope,
    )


class _Block(torch.autograd.Function):
    """`_forward` and `_backward` of one sample, for eager mode."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor | None]:
        *tensors, stride, with_stem, keep = arguments
        maps, weights, shortcut, slope, _ = _sort_out(tensors, len(tensors) - LEARNT)
        out, stem, kept = _forward(maps, weights, shortcut, slope, stride, with_stem, keep)
        if keep:
            ctx.save_for_backward(*tensors, *kept)
            ctx.stride, ctx.maps = stride, len(maps)
        return out, stem

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_stem: Tensor | None) -> tuple[Tensor | None, ...]:
        maps, weights, shortcut, slope, kept = _sort_out(ctx.saved_tensors, ctx.maps)
        grads = _backward(maps, weights, shortcut, slope, ctx.stride, kept, grad, grad_stem)
        return *grads, None, None, None


# Eight weights of the two units, the shortcut's and the last slope.
LEARNT = 10


def _sort_out(
    tensors: Sequence[Any], num_maps: int
) -> tuple[list[Tensor], list[Tensor], Tensor | None, Tensor, list[Tensor]]:
    """Maps, weights, shortcut and slope, and what follows them: what `_forward` kept."""
    maps, learnt = list(tensors[:num_maps]), list(tensors[num_maps : num_maps + LEARNT])
    *weights, shortcut, slope = learnt
    return maps, weights, shortcut, slope, list(tensors[num_maps + LEARNT :])


# For `torch.compile` the same is one operation into which it does not look: it would unroll the
# slabs, and what it makes of the layers written out is slower on a processor than the slabs are.


@torch.library.custom_op(
    "s2ca::residual_block",
    mutates_args=(),
    schema="(Tensor[] maps, Tensor[] weights, Tensor? shortcut, Tensor slope, int[] stride, "
    "bool with_stem, bool keep) -> Tensor[]",
)
def _opaque_block(
    maps: list[Tensor],
    weights: list[Tensor],
    shortcut: Tensor | None,
    slope: Tensor,
    stride: list[int],
    with_stem: bool,
    keep: bool,
) -> list[Tensor]:
    out, stem, kept = _forward(maps, weights, shortcut, slope, stride, with_stem, keep)
    return [out, *([] if stem is None else [stem]), *kept]


@_opaque_block.register_fake
def _(
    maps: list[Tensor],
    weights: list[Tensor],
    shortcut: Tensor | None,
    slope: Tensor,
    stride: list[int],
    with_stem: bool,
    keep: bool,
) -> list[Tensor]:
    x, channels = maps[0], len(weights[1])
    size = _size_after(stride, x.shape)
    made = [x.new_empty(*size, channels) for _ in range(1 + with_stem + 2 * keep)]
    statistics = (4 if shortcut is None else 6) * keep
    dtype = torch.promote_types(x.dtype, torch.float32)
    return [*made, *(x.new_empty(channels, dtype=dtype) for _ in range(statistics))]


@torch.library.custom_op(
    "s2ca::residual_block_backward",
    mutates_args=(),
    schema="(Tensor[] maps, Tensor[] weights, Tensor? shortcut, Tensor slope, int[] stride, "
    "Tensor[] kept, Tensor grad, Tensor? grad_stem) -> Tensor[]",
)
def _opaque_block_backward(
    maps: list[Tensor],
    weights: list[Tensor],
    shortcut: Tensor | None,
    slope: Tensor,
    stride: list[int],
    kept: list[Tensor],
    grad: Tensor,
    grad_stem: Tensor | None,
) -> list[Tensor]:
    grads = _backward(maps, weights, shortcut, slope, stride, kept, grad, grad_stem)
    return [grad for grad in grads if grad is not None]


@_opaque_block_backward.register_fake
def _(
    maps: list[Tensor],
    weights: list[Tensor],
    shortcut: Tensor | None,
    slope: Tensor,
    stride: list[int],
    kept: list[Tensor],
    grad: Tensor,
    grad_stem: Tensor | None,
) -> list[Tensor]:
    tensors = [*maps, *weights, *([] if shortcut is None else [shortcut]), slope]
    return [torch.empty_like(tensor) for tensor in tensors]


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    maps, weights, shortcut, slope, stride, with_stem, _ = inputs
    ctx.save_for_backward(*maps, *weights, shortcut, slope, *output[1 + with_stem :])
    ctx.stride, ctx.with_stem, ctx.maps = stride, with_stem, len(maps)


def _opaque_backward(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    maps, weights, shortcut, slope, kept = _sort_out(ctx.saved_tensors, ctx.maps)
    grad_stem = grads[1] if ctx.with_stem else None
    found = _opaque_block_backward(
        maps, weights, shortcut, slope, ctx.stride, kept, grads[0], grad_stem
    )
    grad_maps, learnt = found[: ctx.maps], found[ctx.maps :]
    grad_shortcut = None if shortcut is None else learnt[8]
    return grad_maps, learnt[:8], grad_shortcut, learnt[-1], None, None, None


_opaque_block.register_autograd(_opaque_backward, setup_context=_keep_for_backward)


class _Norm(NamedTuple):
    """An instance norm of known statistics, (C,) each."""

    mean: Tensor
    rstd: Tensor

    def __call__(self, y: Tensor) -> Tensor:
        return _affine(y.to(self.mean.dtype), self.rstd, -self.mean * self.rstd)


class _Moments:
    """Mean and variance of each channel, from slabs."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, Tensor, Tensor]] = []

    def add(self, y: Tensor) -> None:
        y = y.to(torch.promote_types(y.dtype, torch.float32))
        mean = _sum(y) / y[..., 0].numel()
        centred = _affine(y, torch.ones_like(mean), -mean)
        self.parts.append((y[..., 0].numel(), mean, _sum(centred.square_())))

    def norm(self) -> _Norm:
        # Chan, Golub, LeVeque, Updating formulae and a pairwise algorithm for computing sample
        # variances, 1979: squares are only ever taken of differences from a mean
        counts, means, squares = zip(*self.parts, strict=True)
        total = sum(counts)
        weights = (
            torch.tensor(counts, dtype=means[0].dtype, device=means[0].device)[:, None] / total
        )
        mean = (weights * torch.stack(means)).sum(0)
        variance = sum(squares) / total + (weights * (torch.stack(means) - mean).square()).sum(0)
        return _Norm(mean, torch.rsqrt(variance + NORM_EPS))


class _NormBackward:
    """Gradient of an instance norm, which needs two sums over all slabs before the first result."""

    def __init__(self, norm: _Norm):
        self.norm = norm
        self.count = 0
        self.sum: Tensor | float = 0.0
        self.product: Tensor | float = 0.0

    def add(self, grad: Tensor, y: Tensor) -> None:
        self.count += y[..., 0].numel()
        self.sum += _sum(grad)
        self.product += _sum(grad * self.norm(y))

    def rows(self, grad: Tensor, y: Tensor) -> Tensor:
        rstd = self.norm.rstd
        # rstd · (grad − mean(grad) − n · mean(grad · n)), n the normalised map
        centred = _affine(self.norm(y), -self.product / self.count, -self.sum / self.count)
        return _affine(centred.add_(grad), rstd, torch.zeros_like(rstd)).to(y.dtype)


class _UnitOutput:
    """What a unit puts out, (H, W, D, C), made by rows from its map before the norm."""

    def __init__(self, y: Tensor, norm: _Norm, unit: UnitWeights):
        self.y, self.norm, self.unit = y, norm, unit
        self.shape, self.dtype = y.shape, y.dtype

    def rows(self, lo: int, hi: int) -> Tensor:
        normed = self.norm(self.y[lo:hi])
        return _prelu(normed, self.unit.slope).to(self.dtype)

    @cached_property
    def grad(self) -> Tensor:
        return torch.zeros_like(self.y)

    def add_grad(self, seen: Seen, grad: Tensor) -> None:
        self.grad[seen] += grad


ConvInput = BlockInput | _UnitOutput


class _SeparableConvBackward:
    """Gradients of a unit's convolutions, added up from slabs of the gradient of their output.

    Args:
        x: the convolutions' input, which gets its gradient added.
        unit: the weights.
        stride: stride of the depthwise convolution.
    """

    def __init__(self, x: ConvInput, unit: UnitWeights, stride: Sequence[int]):
        self.x, self.unit, self.stride = x, unit, stride
        # the instance norm that follows cancels the bias, whose gradient therefore is zero
        self.grads = tuple(torch.zeros_like(weight) for weight in unit[:3])

    def add(self, lo: int, hi: int, grad: Tensor) -> None:
        grad_depthwise, grad_pointwise, _ = self.grads
        depthwise, pointwise = (
            self.unit.depthwise.to(grad.dtype),
            self.unit.pointwise.to(grad.dtype),
        )
        window = _window(self.x, lo, hi, self.stride[0]).to(grad.dtype)
        grad_pointwise += _outer(grad, _depthwise_conv(window, depthwise, self.stride)).view_as(
            pointwise
        )
        grad = grad @ pointwise.flatten(1)
        grad_depthwise += _depthwise_weight_grad(window, grad, depthwise, self.stride)
        first = lo * self.stride[0] - 1
        rows = _depthwise_input_grad(grad, depthwise, self.stride, window.shape)
        inside = slice(max(first, 0), min(first + len(rows), self.x.shape[0]))
        self.x.add_grad((inside, ALL, ALL), rows[inside.start - first : inside.stop - first])


def _slabs(y: Tensor, x: BlockInput) -> list[tuple[int, int]]:
    """Ranges of rows of y, so that a slab of the larger of the two fits into a cache."""
    larger = max(y.numel(), x.shape.numel())
    if larger <= ONE_SLAB_VALUES:
        return [(0, len(y))]
    values = SLAB_VALUES * min(torch.get_num_threads(), MAX_THREADS)
    step = max(2, values * len(y) // larger)
    return [(lo, min(lo + step, len(y))) for lo in range(0, len(y), step)]


def _projected(x_seen: Tensor, shortcut: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The shortcut before its norm: a strided pointwise convolution, or the input itself."""
    return x_seen if shortcut is None else F.linear(x_seen.to(dtype), shortcut.flatten(1).to(dtype))


def _seen(lo: int, hi: int, stride: Sequence[int]) -> Seen:
    """The voxels from which a strided pointwise convolution makes its rows lo to hi."""
    rows = slice(lo * stride[0], (hi - 1) * stride[0] + 1, stride[0])
    return rows, slice(None, None, stride[1]), slice(None, None, stride[2])


def _separable_conv(x: ConvInput, unit: UnitWeights, stride: Sequence[int]) -> tuple[Tensor, _Norm]:
    """Both convolutions of a unit; their output and its norm."""
    y = unit.pointwise.new_empty(*_size_after(stride, x.shape), len(unit.pointwise), dtype=x.dtype)
    moments = _Moments()
    for lo, hi in _slabs(y, x):
        window = _window(x, lo, hi, stride[0])
        slab = F.linear(_depthwise_conv(window, unit.depthwise, stride), unit.pointwise.flatten(1))
        y = y.to(slab.dtype)  # under autocast
        y[lo:hi] = slab
        moments.add(slab)
    return y, moments.norm()


def _size_after(stride: Sequence[int], size: Sequence[int]) -> list[int]:
    return [-(-length // s) for length, s in zip(size, stride, strict=False)]


def _window(x: ConvInput, lo: int, hi: int, stride: int) -> Tensor:
    """The rows of x that a 3×3×3 kernel sees for its output's rows lo to hi."""
    first, last = lo * stride - 1, (hi - 1) * stride + 2
    length = x.shape[0]
    window = x.rows(max(first, 0), min(last, length))
    if first >= 0 and last <= length:
        return window
    return F.pad(window, (0, 0, 0, 0, 0, 0, max(-first, 0), max(last - length, 0)))


def _depthwise_conv(window: Tensor, weight: Tensor, stride: Sequence[int]) -> Tensor:
    z = F.conv3d(
        window.unsqueeze(0).permute(0, 4, 1, 2, 3),
        weight,
        stride=tuple(stride),
        padding=(0, 1, 1),
        groups=len(weight),
    )
    return z.squeeze(0).permute(1, 2, 3, 0)


def _depthwise_input_grad(
    grad: Tensor, weight: Tensor, stride: Sequence[int], size: Sequence[int]
) -> Tensor:
    """Gradient of a window of `size`: the convolution with the mirrored kernel."""
    if tuple(stride) != (1, 1, 1):
        spread = grad.new_zeros(size[0] - 2, *size[1:])
        spread[tuple(slice(None, None, s) for s in stride)] = grad
        grad = spread
    z = F.conv3d(
        grad.unsqueeze(0).permute(0, 4, 1, 2, 3),
        weight.flip(2, 3, 4),
        padding=(2, 1, 1),
        groups=len(weight),
    )
    return z.squeeze(0).permute(1, 2, 3, 0)


def _depthwise_weight_grad(
    window: Tensor, grad: Tensor, weight: Tensor, stride: Sequence[int]
) -> Tensor:
    """Gradient of the kernel, as three of 2D kernels with H as the batch.

    On the CPU this has a fast implementation, which the 3D kernel has not.
    """
    planes, grad_planes = window.permute(0, 3, 1, 2), grad.permute(0, 3, 1, 2)
    rows = (len(grad) - 1) * stride[0] + 1
    parts = [
        conv2d_weight(
            planes[h : h + rows : stride[0]],
            weight.shape[:2] + weight.shape[3:],
            grad_planes,
            stride=tuple(stride[1:]),
            padding=1,
            groups=len(weight),
        )
        for h in range(3)
    ]
    return torch.stack(parts, dim=2)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return F.prelu(x, slope.to(x.dtype))


def _prelu_backward(grad: Tensor, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of PReLU's input and slope."""
    grad = grad.to(x.dtype)
    positive = torch.ops.aten.threshold_backward(grad, x, 0)
    negative = grad - positive
    return positive + negative * slope, torch.dot(negative.flatten(), x.flatten())


def _affine(y: Tensor, factor: Tensor, constant: Tensor) -> Tensor:
    """Multiply and add per channel, on rows long enough to be fast."""
    depth = y.shape[2]
    return torch.addcmul(constant.repeat(depth), y.flatten(2), factor.repeat(depth)).view(y.shape)


def _sum(y: Tensor) -> Tensor:
    """Sum over all but the channels."""
    return y.flatten(0, 1).flatten(1).sum(0).unflatten(0, y.shape[2:]).sum(0)


def _outer(grad: Tensor, x: Tensor) -> Tensor:
    """Gradient of a pointwise convolution's weight, (O, C)."""
    return grad.flatten(0, 2).T @ x.flatten(0, 2)
