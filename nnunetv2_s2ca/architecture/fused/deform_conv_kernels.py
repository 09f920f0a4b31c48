"""Triton kernels of the deformable convolution, forward and backward.

A program takes a block of voxels and a group of taps at a time: it samples them, and multiplies the
samples with the weights while they are in registers. The 27 · C samples of a voxel are never
written. Where a tensor has voxels, they are one axis, D fastest; k = tap · C + channel.
"""

from __future__ import annotations

import triton
import triton.language as tl

TAPS = tl.constexpr(27)
NAN = tl.constexpr(tl.PropagateNan.ALL)


@triton.jit
def forward_kernel(
    x_pointer,  # (B, V, CHANNELS)
    offset_pointer,  # (B, 81, V), with strides
    attention_pointer,  # (B, V)
    weight_pointer,  # (GROUPS · TAPS_AT_ONCE · CHANNELS, outputs), rows of missing taps are zero
    out_pointer,  # (B, outputs, V), with strides
    height,
    width,
    depth,
    outputs,
    offset_channel,  # strides
    offset_voxel,
    out_channel,
    out_voxel,
    HAS_ATTENTION: tl.constexpr,
    CHANNELS: tl.constexpr,
    TAPS_AT_ONCE: tl.constexpr,
    VOXELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
):
    """Compute all outputs of a block of voxels; the grid is (blocks, B)."""
    voxels = height * width * depth
    sample = tl.program_id(1).to(tl.int64)
    x_pointer += sample * voxels * CHANNELS
    offset_pointer += sample * voxels * 3 * TAPS
    attention_pointer += sample * voxels
    out_pointer += sample * voxels * outputs

    voxel = tl.program_id(0) * VOXELS + tl.arange(0, VOXELS)
    output = tl.arange(0, OUTPUTS)
    attention = _load_attention(attention_pointer, voxel, voxels, HAS_ATTENTION, VOXELS)
    sums = tl.zeros((VOXELS, OUTPUTS), tl.float32)
    for first in range(0, TAPS, TAPS_AT_ONCE):
        h, w, d, live = _voxels_and_taps(voxel, first, width, depth, voxels, TAPS_AT_ONCE)
        moves = offset_pointer + voxel[:, None] * offset_voxel
        row = first + tl.arange(0, TAPS_AT_ONCE)[None, :]
        h = h + _load_move(moves, row, offset_channel, live) * attention[:, None]
        w = w + _load_move(moves, row + TAPS, offset_channel, live) * attention[:, None]
        d = d + _load_move(moves, row + 2 * TAPS, offset_channel, live) * attention[:, None]
        low_h, share_h, _ = _neighbours(h, height)
        low_w, share_w, _ = _neighbours(w, width)
        low_d, share_d, _ = _neighbours(d, depth)
        samples = tl.zeros((VOXELS, TAPS_AT_ONCE, CHANNELS), tl.float32)
        for corner in tl.static_range(8):
            weight_h, weight_w, weight_d = _shares(share_h, share_w, share_d, corner)
            at, there = _corner(low_h, low_w, low_d, corner, height, width, depth, live, CHANNELS)
            value = tl.load(x_pointer + at, mask=there, other=0).to(tl.float32)
            samples += value * (weight_h * weight_w * weight_d)[:, :, None]
        weight = _load_weight(weight_pointer, first, outputs, TAPS_AT_ONCE, CHANNELS, OUTPUTS)
        flat = tl.reshape(samples, (VOXELS, TAPS_AT_ONCE * CHANNELS)).to(weight.dtype)
        sums = tl.dot(flat, weight, sums, input_precision="ieee")
    target = out_pointer + voxel[:, None] * out_voxel + output[None, :] * out_channel
    kept = (voxel < voxels)[:, None] & (output < outputs)[None, :]
    tl.store(target, sums.to(out_pointer.dtype.element_ty), mask=kept)


@triton.jit
def backward_kernel(
    x_pointer,
    offset_pointer,
    attention_pointer,
    weight_pointer,
    grad_pointer,  # of the output, (B, outputs, V), with strides
    grad_x_pointer,  # fp32, like x, zero
    grad_offset_pointer,  # like offset
    grad_attention_pointer,  # fp32, like attention, zero
    grad_weight_pointer,  # fp32, like weight, zero
    height,
    width,
    depth,
    outputs,
    offset_channel,
    offset_voxel,
    grad_channel,
    grad_voxel,
    HAS_ATTENTION: tl.constexpr,
    CHANNELS: tl.constexpr,
    TAPS_AT_ONCE: tl.constexpr,
    VOXELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Compute all gradients of a group of taps in BLOCKS blocks of voxels.

    The grid is (groups · parts of the volume, B). Groups come first, so that programs which run
    side by side read the same gradients.
    """
    voxels = height * width * depth
    groups = tl.cdiv(TAPS, TAPS_AT_ONCE)
    sample = tl.program_id(1).to(tl.int64)
    x_pointer += sample * voxels * CHANNELS
    grad_x_pointer += sample * voxels * CHANNELS
    offset_pointer += sample * voxels * 3 * TAPS
    grad_offset_pointer += sample * voxels * 3 * TAPS
    attention_pointer += sample * voxels
    grad_attention_pointer += sample * voxels
    grad_pointer += sample * voxels * outputs

    first = tl.program_id(0) % groups * TAPS_AT_ONCE
    start = tl.program_id(0) // groups * (BLOCKS * VOXELS)
    row = first + tl.arange(0, TAPS_AT_ONCE)[None, :]
    output = tl.arange(0, OUTPUTS)
    weight = _load_weight(weight_pointer, first, outputs, TAPS_AT_ONCE, CHANNELS, OUTPUTS)
    grad_weight = tl.zeros((TAPS_AT_ONCE * CHANNELS, OUTPUTS), tl.float32)
    for begin in range(start, tl.minimum(start + BLOCKS * VOXELS, voxels), VOXELS):
        voxel = begin + tl.arange(0, VOXELS)
        attention = _load_attention(attention_pointer, voxel, voxels, HAS_ATTENTION, VOXELS)
        h, w, d, live = _voxels_and_taps(voxel, first, width, depth, voxels, TAPS_AT_ONCE)
        moves = offset_pointer + voxel[:, None] * offset_voxel
        move_h = _load_move(moves, row, offset_channel, live)
        move_w = _load_move(moves, row + TAPS, offset_channel, live)
        move_d = _load_move(moves, row + 2 * TAPS, offset_channel, live)
        low_h, share_h, moving_h = _neighbours(h + move_h * attention[:, None], height)
        low_w, share_w, moving_w = _neighbours(w + move_w * attention[:, None], width)
        low_d, share_d, moving_d = _neighbours(d + move_d * attention[:, None], depth)

        source = grad_pointer + voxel[:, None] * grad_voxel + output[None, :] * grad_channel
        kept = (voxel < voxels)[:, None] & (output < outputs)[None, :]
        grad = tl.load(source, mask=kept, other=0).to(weight.dtype)
        grad_samples = tl.reshape(
            tl.dot(grad, tl.trans(weight), input_precision="ieee"),
            (VOXELS, TAPS_AT_ONCE, CHANNELS),
        )
        samples = tl.zeros((VOXELS, TAPS_AT_ONCE, CHANNELS), tl.float32)
        grad_h = tl.zeros((VOXELS, TAPS_AT_ONCE), tl.float32)
        grad_w = tl.zeros((VOXELS, TAPS_AT_ONCE), tl.float32)
        grad_d = tl.zeros((VOXELS, TAPS_AT_ONCE), tl.float32)
        for corner in tl.static_range(8):
            weight_h, weight_w, weight_d = _shares(share_h, share_w, share_d, corner)
            at, there = _corner(low_h, low_w, low_d, corner, height, width, depth, live, CHANNELS)
            value = tl.load(x_pointer + at, mask=there, other=0).to(tl.float32)
            share = weight_h * weight_w * weight_d
            samples += value * share[:, :, None]
            tl.atomic_add(
                grad_x_pointer + at, grad_samples * share[:, :, None], mask=there, sem="relaxed"
            )
            # shares rise with the position on the upper side, and fall on the lower one
            along = tl.sum(value * grad_samples, 2)
            grad_h += along * weight_w * weight_d * (corner // 4 * 2 - 1)
            grad_w += along * weight_h * weight_d * (corner // 2 % 2 * 2 - 1)
            grad_d += along * weight_h * weight_w * (corner % 2 * 2 - 1)
        grad_h = tl.where(moving_h, grad_h, 0.0)
        grad_w = tl.where(moving_w, grad_w, 0.0)
        grad_d = tl.where(moving_d, grad_d, 0.0)
        targets = grad_offset_pointer + voxel[:, None] * offset_voxel
        kind = grad_offset_pointer.dtype.element_ty
        scaled = (grad_h * attention[:, None]).to(kind)
        tl.store(targets + row * offset_channel, scaled, mask=live)
        scaled = (grad_w * attention[:, None]).to(kind)
        tl.store(targets + (row + TAPS) * offset_channel, scaled, mask=live)
        scaled = (grad_d * attention[:, None]).to(kind)
        tl.store(targets + (row + 2 * TAPS) * offset_channel, scaled, mask=live)
        if HAS_ATTENTION:
            found = tl.sum(grad_h * move_h + grad_w * move_w + grad_d * move_d, 1)
            tl.atomic_add(grad_attention_pointer + voxel, found, mask=voxel < voxels, sem="relaxed")
        flat = tl.reshape(samples, (VOXELS, TAPS_AT_ONCE * CHANNELS)).to(weight.dtype)
        grad_weight = tl.dot(tl.trans(flat), grad, grad_weight, input_precision="ieee")
    target, kept = _weights(first, outputs, TAPS_AT_ONCE, CHANNELS, OUTPUTS)
    tl.atomic_add(grad_weight_pointer + target, grad_weight, mask=kept, sem="relaxed")


@triton.jit
def _voxels_and_taps(voxel, first, width, depth, voxels, TAPS_AT_ONCE: tl.constexpr):
    """Where taps stand without offsets, and which of voxels and taps there are."""
    tap = first + tl.arange(0, TAPS_AT_ONCE)
    h = (voxel // (width * depth))[:, None] + (tap // 9 - 1)[None, :]
    w = (voxel // depth % width)[:, None] + (tap // 3 % 3 - 1)[None, :]
    d = (voxel % depth)[:, None] + (tap % 3 - 1)[None, :]
    live = (voxel < voxels)[:, None] & (tap < TAPS)[None, :]
    return h.to(tl.float32), w.to(tl.float32), d.to(tl.float32), live


@triton.jit
def _load_attention(pointer, voxel, voxels, HAS_ATTENTION: tl.constexpr, VOXELS: tl.constexpr):
    if HAS_ATTENTION:
        attention = tl.load(pointer + voxel, mask=voxel < voxels, other=0).to(tl.float32)
    else:
        attention = tl.full((VOXELS,), 1.0, tl.float32)
    return attention


@triton.jit
def _load_move(moves, row, stride, live):
    return tl.load(moves + row * stride, mask=live, other=0).to(tl.float32)


@triton.jit
def _neighbours(position, length):
    """Lower neighbour on an axis, share of the upper one, and whether an offset moves it.

    Outside the axis a position is replaced by its floor.
    """
    moving = (position >= 0) & (position <= length - 1)
    # nothing is there beyond these limits, and what is within them fits an integer
    near = tl.minimum(tl.maximum(position, -2.0, NAN), length + 1.0, NAN)
    position = tl.where(moving, position, tl.floor(near))
    low = tl.floor(position)
    return low.to(tl.int32), position - low, moving


@triton.jit
def _shares(h, w, d, corner: tl.constexpr):
    """Shares on each axis of one of the eight corners around a position."""
    return _share(h, corner // 4), _share(w, corner // 2 % 2), _share(d, corner % 2)


@triton.jit
def _share(share, upper: tl.constexpr):
    return share if upper else 1.0 - share


@triton.jit
def _corner(h, w, d, corner: tl.constexpr, height, width, depth, live, CHANNELS: tl.constexpr):
    """Where the channels of a corner above (h, w, d) stand in x, and whether its voxel exists."""
    i, j, k = h + corner // 4, w + corner // 2 % 2, d + corner % 2
    there = live & (i >= 0) & (i < height) & (j >= 0) & (j < width) & (k >= 0) & (k < depth)
    at = ((i * width + j) * depth + k) * CHANNELS
    at = at[:, :, None] + tl.arange(0, CHANNELS)[None, None, :]
    return at, tl.broadcast_to(there[:, :, None], at.shape)


@triton.jit
def _weights(
    first, outputs, TAPS_AT_ONCE: tl.constexpr, CHANNELS: tl.constexpr, OUTPUTS: tl.constexpr
):
    """Where the weights of a group of taps stand, and which of them there are."""
    k = first * CHANNELS + tl.arange(0, TAPS_AT_ONCE * CHANNELS)
    output = tl.arange(0, OUTPUTS)
    at = k[:, None] * outputs + output[None, :]
    return at, tl.broadcast_to((output < outputs)[None, :], at.shape)


@triton.jit
def _load_weight(
    pointer,
    first,
    outputs,
    TAPS_AT_ONCE: tl.constexpr,
    CHANNELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
):
    at, there = _weights(first, outputs, TAPS_AT_ONCE, CHANNELS, OUTPUTS)
    return tl.load(pointer + at, mask=there, other=0)
