"""Strides and patch sizes of S2CA-Net for images of any shape and spacing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nnunetv2.experiment_planning.experiment_planners.network_topology import (
    get_pool_and_conv_props,
)

from nnunetv2_s2ca.architecture.sizes import NUM_STAGES, Strides

# Zhou et al., IEEE TMI 2024
LONGEST = 128
# Weights of the global branches belong to the lengths of the axes. Few lengths make axes equal more
# often, and so do weights fit another dataset.
LENGTHS = (8, 16, 24, 32, 40, 48, 64, 80, 96, 112, LONGEST)
# An axis becomes as long as the longest if that is at most this many times its length.
PADDED = 1.25
# The shifts of the bottleneck need neighbours.
LEAST_AT_THE_BOTTOM = 2
# nnU-Net pools an axis until its feature map would be too small; here images of any length are to
# have four levels, and short axes get a larger patch.
ENDLESS = 2**20


def strides_for(spacing: Sequence[float]) -> Strides:
    """Strides into the four levels: as nnU-Net pools, coarse axes later than fine ones.

    Args:
        spacing: mm of a voxel on each axis.
    """
    pools = get_pool_and_conv_props(list(spacing), [ENDLESS] * 3, 1, NUM_STAGES - 1)[1]
    return [[int(stride) for stride in level] for level in pools[:NUM_STAGES]]


def allowed_lengths(strides: Strides) -> list[list[int]]:
    """For each axis, the lengths that a patch may have, from short to long."""
    totals = [math.prod(axis) for axis in zip(*strides, strict=True)]
    return [
        [n for n in LENGTHS if n % total == 0 and n >= LEAST_AT_THE_BOTTOM * total]
        for total in totals
    ]


def largest_patch(shape: Sequence[float], strides: Strides) -> tuple[int, ...]:
    """The patch for images of a shape, if memory does not matter.

    128 voxels on each axis that is as long; on a shorter one the closest of `LENGTHS`, or the
    length of the longest axis, if that is little more.

    Args:
        shape: voxels of the images, their median.
        strides: of the four levels.
    """
    lengths = allowed_lengths(strides)
    patch = [
        min(allowed, key=lambda n: abs(math.log(n / min(max(voxels, 1), LONGEST))))
        for voxels, allowed in zip(shape, lengths, strict=True)
    ]
    longest = max(patch)
    return tuple(
        longest if longest <= PADDED * n and longest in allowed else n
        for n, allowed in zip(patch, lengths, strict=True)
    )


def smaller_patch(patch_size: Sequence[int], strides: Strides) -> tuple[int, ...] | None:
    """The next smaller patch, by its longest axes, all of them; None if there is none."""
    lengths = allowed_lengths(strides)
    shorter = [
        max((n for n in allowed if n < size), default=None)
        for size, allowed in zip(patch_size, lengths, strict=True)
    ]
    able = [size for size, less in zip(patch_size, shorter, strict=True) if less is not None]
    if not able:
        return None
    return tuple(
        less if size == max(able) and less is not None else size
        for size, less in zip(patch_size, shorter, strict=True)
    )
