"""The deformable convolution in one pass on an NVIDIA card.

It reads input, offsets and attention once and writes the output; the backward pass samples again.
Gradients are added up by atomic operations, in no fixed order.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from torch.nn import functional as F

from nnunetv2_s2ca.architecture.fused import deform_conv_kernels as kernels
from nnunetv2_s2ca.architecture.fused.registering import FusedOperation

TAPS = 27
# A product on tensor cores adds up at least as many terms.
PRODUCT_TERMS = 16
# Voxels of a block: with more, values would not stay in registers.
FORWARD_VOXELS, BACKWARD_VOXELS = 64, 32
# Blocks of voxels whose weight gradients one program of the backward pass adds up.
BACKWARD_BLOCKS = 32


class TritonArguments(NamedTuple):
    """Arguments of the operation, in fp16, bf16 or fp32, each its own.

    x is (B, C, H, W, D); offset (B, 81, H, W, D) in voxels, 27 along each axis; weight
    (O, C · 27); attention (B, 1, H, W, D), by which all offsets of a voxel are multiplied.
    """

    x: Tensor
    offset: Tensor
    weight: Tensor
    attention: Tensor | None


class TritonOptions(NamedTuple):
    """Whether the output's channels are its last axis in memory, 0 or 1."""

    channels_last: int

    @property
    def outputs(self) -> int:
        return 1


class Blocks(NamedTuple):
    """What a kernel is compiled for: sizes of its blocks."""

    CHANNELS: int
    TAPS_AT_ONCE: int
    VOXELS: int
    OUTPUTS: int

    @property
    def groups(self) -> int:
        """How many groups the taps make."""
        return -(-TAPS // self.TAPS_AT_ONCE)


def deform_conv_triton(
    x: Tensor, offset: Tensor, weight: Tensor, attention: Tensor | None = None
) -> Tensor:
    """`architecture.deform_conv.deform_conv3d`, whose arguments it takes, in fp32 inside.

    The product with the weights is in x's dtype with sums in fp32, as autocast has it for
    convolutions.
    """
    channels_last = _is_channels_last(x)
    if not channels_last:
        x = x.contiguous()
    if not _is_channels_last(offset):
        offset = offset.contiguous()
    if attention is not None:
        attention = attention.contiguous()
    arguments = TritonArguments(x, offset, weight.contiguous(), attention)
    (out,) = _deform_conv(arguments, TritonOptions(int(channels_last)))
    return out


def blocks_for(channels: int, outputs: int, *, voxels: int) -> Blocks:
    """Sizes of the blocks for C input and O output channels and as many voxels."""
    padded = triton.next_power_of_2(channels)
    return Blocks(
        CHANNELS=padded,
        TAPS_AT_ONCE=max(1, PRODUCT_TERMS // padded),
        VOXELS=voxels,
        OUTPUTS=max(16, triton.next_power_of_2(outputs)),
    )


def warps_for(blocks: Blocks) -> int:
    """Warps of a program."""
    return 8 if blocks.OUTPUTS > 128 else 4


def _is_channels_last(x: Tensor) -> bool:
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last_3d)


def _forward(arguments: TritonArguments, options: TritonOptions) -> list[Tensor]:
    x, offset, weight, attention = arguments
    blocks = blocks_for(x.shape[1], len(weight), voxels=FORWARD_VOXELS)
    out = _empty_output(arguments, options)
    voxels = x[0, 0].numel()
    with _device_of(x):
        kernels.forward_kernel[triton.cdiv(voxels, blocks.VOXELS), len(x)](
            _pack(x, blocks),
            offset,
            x if attention is None else attention,
            _pack_weight(arguments, blocks),
            out,
            *x.shape[2:],
            len(weight),
            *_strides(offset),
            *_strides(out),
            HAS_ATTENTION=attention is not None,
            **blocks._asdict(),
            num_warps=warps_for(blocks),
            num_stages=1,  # else Triton copies every sample to shared memory first
        )
    return [out]


def _backward(
    arguments: TritonArguments,
    options: TritonOptions,
    kept: list[Tensor],
    grads: list[Tensor | None],
) -> TritonArguments:
    x, offset, weight, attention = arguments
    (grad,) = grads
    assert grad is not None
    if not _is_channels_last(grad):
        grad = grad.contiguous()
    blocks = blocks_for(x.shape[1], len(weight), voxels=BACKWARD_VOXELS)
    packed, packed_weight = _pack(x, blocks), _pack_weight(arguments, blocks)
    grad_x, grad_weight = (
        torch.zeros_like(y, dtype=torch.float32) for y in (packed, packed_weight)
    )
    grad_offset = torch.empty_like(offset)
    grad_attention = None if attention is None else torch.zeros_like(attention, dtype=torch.float32)
    parts = triton.cdiv(x[0, 0].numel(), blocks.VOXELS * BACKWARD_BLOCKS)
    with _device_of(x):
        kernels.backward_kernel[blocks.groups * parts, len(x)](
            packed,
            offset,
            x if attention is None else attention,
            packed_weight,
            grad,
            grad_x,
            grad_offset,
            grad_x if grad_attention is None else grad_attention,
            grad_weight,
            *x.shape[2:],
            len(weight),
            *_strides(offset),
            *_strides(grad),
            HAS_ATTENTION=attention is not None,
            BLOCKS=BACKWARD_BLOCKS,
            **blocks._asdict(),
            num_warps=warps_for(blocks),
            num_stages=1,  # else Triton copies every sample to shared memory first
        )
    return TritonArguments(
        torch.empty_like(x).copy_(grad_x[..., : x.shape[1]].transpose(1, 2).view_as(x)),
        grad_offset,
        _unpack_weight(grad_weight, arguments, blocks),
        None if grad_attention is None else grad_attention.to(attention.dtype),
    )


def _pack(x: Tensor, blocks: Blocks) -> Tensor:
    """(B, C, H, W, D) → (B, V, CHANNELS): a voxel's channels side by side, padded with zeros."""
    packed = x.flatten(2).transpose(1, 2)
    return F.pad(packed, (0, blocks.CHANNELS - x.shape[1])).contiguous()


def _pack_weight(arguments: TritonArguments, blocks: Blocks) -> Tensor:
    """(O, C · 27) → (taps · CHANNELS, O) in x's dtype, padded with zeros."""
    by_tap = arguments.weight.to(arguments.x.dtype).unflatten(1, (-1, TAPS)).permute(2, 1, 0)
    missing = (
        blocks.CHANNELS - by_tap.shape[1],
        blocks.groups * blocks.TAPS_AT_ONCE - TAPS,
    )
    return F.pad(by_tap, (0, 0, 0, missing[0], 0, missing[1])).flatten(0, 1).contiguous()


def _unpack_weight(packed: Tensor, arguments: TritonArguments, blocks: Blocks) -> Tensor:
    """Undo `_pack_weight`."""
    by_tap = packed.unflatten(0, (-1, blocks.CHANNELS))[:TAPS, : arguments.x.shape[1]]
    return by_tap.permute(2, 1, 0).flatten(1).to(arguments.weight.dtype).contiguous()


def _strides(y: Tensor) -> tuple[int, int]:
    """Strides of channels and of voxels, which are one axis in both layouts."""
    channels, voxels = y.shape[1], y[0, 0].numel()
    return (1, channels) if _is_channels_last(y) else (voxels, 1)


def _device_of(x: Tensor) -> AbstractContextManager:
    """Triton launches on the current device."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def _empty_output(arguments: TritonArguments, options: TritonOptions) -> Tensor:
    x, _, weight, _ = arguments
    layout = torch.channels_last_3d if options.channels_last else torch.contiguous_format
    return torch.empty(
        (len(x), len(weight), *x.shape[2:]), dtype=x.dtype, device=x.device, memory_format=layout
    )


def _fake(arguments: TritonArguments, options: TritonOptions) -> list[Tensor]:
    return [_empty_output(arguments, options)]


def _flops(shapes: Any, options: TritonOptions) -> int:
    """Two operations a multiply-add of the product with the weight; sampling is not counted."""
    batch, _, *size = shapes.x
    return 2 * batch * math.prod(size) * math.prod(shapes.weight)


_deform_conv = FusedOperation(
    "deform_conv_triton",
    TritonArguments,
    TritonOptions,
    forward=_forward,
    backward=_backward,
    fake=_fake,
)
_deform_conv.count_flops(_flops)
