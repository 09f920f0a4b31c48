"""A volume as three stacks of planes: fold one axis away, work in 2D, put it back.

`axis` counts the spatial axes, 0 for H, 1 for W, 2 for D. Stacks of planes of one size go through
2D layers as one batch, channels-last on processors and channels first elsewhere, where PyTorch's
group norm would copy channels-last maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from nnunetv2_s2ca.architecture import fused

AXES = (0, 1, 2)

# From a map (B, C, H, W, D) and axes whose planes have one size to a map for each of these axes.
PlanesPart = Callable[[Tensor, Sequence[int]], list[Tensor]]


def on_planes(part: PlanesPart, x: Tensor) -> list[Tensor]:
    """Call a part of the network on the planes of all three axes.

    Args:
        part: what to call; for axes whose planes have one size it is called once.
        x: (B, C, H, W, D).

    Returns:
        A map (B, C', H, W, D) for each axis.
    """
    volumes: dict[int, Tensor] = {}
    for axes in axes_by_plane(x.shape[2:]):
        volumes |= zip(axes, part(x, axes), strict=True)
    return [volumes[axis] for axis in AXES]


def axes_by_plane(size: Sequence[int]) -> list[list[int]]:
    """Group the axes of a map of spatial `size` whose planes have one size.

    For a cube that is one group of three.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for axis in AXES:
        plane = tuple(length for other, length in enumerate(size) if other != axis)
        groups.setdefault((size[axis], *plane), []).append(axis)
    return list(groups.values())


def fold_into_channels(x: Tensor, axes: Iterable[int]) -> Tensor:
    """Fold each of some axes of one length L into the channels.

    Args:
        x: (B, C, H, W, D).
        axes: the axes, whose planes have one size (h, w).

    Returns:
        (len(axes)·B, C·L, h, w), the channels in the order c·L + l.
    """
    if not fused.on_processor(x):
        return torch.cat([x.movedim(axis + 2, 2) for axis in axes]).flatten(1, 2)
    folded = torch.cat([x.movedim((1, axis + 2), (3, 4)) for axis in axes])
    return folded.flatten(3).permute(0, 3, 1, 2)


def unfold_from_channels(planes: Tensor, axes: Sequence[int], *, length: int) -> list[Tensor]:
    """Undo `fold_into_channels` for axes of `length` voxels: a map (B, C, H, W, D) an axis."""
    if not fused.on_processor(planes):
        parts = planes.unflatten(1, (-1, length)).chunk(len(axes))
        return [part.movedim(2, axis + 2) for part, axis in zip(parts, axes, strict=True)]
    unfolded = planes.permute(0, 2, 3, 1).unflatten(3, (-1, length))
    return [
        part.movedim((3, 4), (1, axis + 2))
        for part, axis in zip(unfolded.chunk(len(axes)), axes, strict=True)
    ]


def fold_into_batch(x: Tensor, axes: Iterable[int]) -> Tensor:
    """Fold each of some axes of one length L into the batch.

    Args:
        x: (B, C, H, W, D).
        axes: the axes, whose planes have one size (h, w).

    Returns:
        (len(axes)·B·L, C, h, w).
    """
    if not fused.on_processor(x):
        return torch.cat([x.movedim(axis + 2, 1) for axis in axes]).flatten(0, 1)
    folded = torch.cat([x.movedim((axis + 2, 1), (1, 4)) for axis in axes])
    return folded.flatten(0, 1).permute(0, 3, 1, 2)


def unfold_from_batch(planes: Tensor, axes: Sequence[int], *, length: int) -> list[Tensor]:
    """Undo `fold_into_batch` for axes of `length` voxels: a map (B, C, H, W, D) an axis."""
    if not fused.on_processor(planes):
        parts = planes.unflatten(0, (-1, length)).chunk(len(axes))
        return [part.movedim(1, axis + 2) for part, axis in zip(parts, axes, strict=True)]
    unfolded = planes.permute(0, 2, 3, 1).unflatten(0, (-1, length))
    return [
        part.movedim((1, 4), (axis + 2, 1))
        for part, axis in zip(unfolded.chunk(len(axes)), axes, strict=True)
    ]
