"""Which sizes fit S2CA-Net, and what follows from them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

NUM_STAGES = 4
Strides = Sequence[Sequence[int]]
Branches = Sequence[tuple[int, int]]
# Calls a part of the network: `run(part, *arguments)`.
Run = Callable[..., Any]


def check_sizes(
    patch_size: Sequence[int], strides: Strides, features_per_stage: Sequence[int]
) -> None:
    """Check that sizes fit each other.

    Raises:
        ValueError: if they do not; says which.
    """
    if len(patch_size) != 3:
        raise ValueError(f"S2CA-Net is a 3D network; patch_size {tuple(patch_size)} has not 3 axes")
    if len(strides) != NUM_STAGES or len(features_per_stage) != NUM_STAGES:
        raise ValueError(
            f"S2CA-Net has {NUM_STAGES} levels, so strides and features_per_stage need "
            f"{NUM_STAGES} entries each; got {len(strides)} and {len(features_per_stage)}"
        )
    if any(len(stride) != 3 for stride in strides) or any(s != 1 for s in strides[0]):
        raise ValueError(f"strides need 3 axes each, the first all ones; got {strides}")
    if min(*patch_size, *itertools.chain(*strides), *features_per_stage) < 1:
        raise ValueError(
            f"sizes are 1 at least; got patch_size {tuple(patch_size)}, strides {strides}, "
            f"features_per_stage {tuple(features_per_stage)}"
        )
    total = [math.prod(axis) for axis in zip(*strides, strict=True)]
    if any(size % stride for size, stride in zip(patch_size, total, strict=True)):
        raise ValueError(
            f"every axis of patch_size must be divisible by the product of its strides; got "
            f"patch_size {tuple(patch_size)} and products {tuple(total)}"
        )
    if math.prod(patch_size) == math.prod(total):
        raise ValueError(
            f"patch_size {tuple(patch_size)} leaves a single voxel at the coarsest level, on "
            f"which instance norm is undefined; use a larger patch"
        )


def map_sizes(patch_size: Sequence[int], strides: Strides) -> list[tuple[int, ...]]:
    """The spatial size (H, W, D) of the feature maps at each level."""
    sizes = [tuple(patch_size)]
    for stride in strides[1:]:
        sizes.append(tuple(size // s for size, s in zip(sizes[-1], stride, strict=True)))
    return sizes


def branch_arguments(
    map_sizes: Sequence[tuple[int, ...]], branches: Branches
) -> dict[int, dict[str, Any]]:
    """Level → keyword arguments of its global branch."""
    levels = range(NUM_STAGES - len(branches), NUM_STAGES)
    return {
        level: {"map_size": map_sizes[level], "embed_dim": embed_dim, "depth": depth}
        for level, (embed_dim, depth) in zip(levels, branches, strict=True)
    }
