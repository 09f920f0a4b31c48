"""A volume as three stacks of planes: fold one axis away, work in 2D, put it back.

`axis` counts the spatial axes, 0 for H, 1 for W, 2 for D. Stacks of planes of one size go through
2D layers as one batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

AXES = (0, 1, 2)


class PointwiseConv2d(nn.Conv2d):
    """1×1 convolution of (B, in_channels, H, W), as the matrix product that it is.

    One product for the whole batch of channels-last maps, where PyTorch's convolution of small
    maps on a processor makes one a sample.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(
            0, 3, 1, 2
        )


class Mlp(nn.Module):
    """Two pointwise convolutions of (B, channels, H, W) with four times the channels in between.

    GELU stands between them.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = PointwiseConv2d(channels, 4 * channels)
        self.fc2 = PointwiseConv2d(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


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
        (len(axes)·B, C·L, h, w), channels-last, the channels in the order c·L + l.
    """
    folded = torch.cat([x.movedim((1, axis + 2), (3, 4)) for axis in axes])
    return folded.flatten(3).permute(0, 3, 1, 2)


def unfold_from_channels(planes: Tensor, axes: Sequence[int], *, length: int) -> list[Tensor]:
    """Undo `fold_into_channels` for axes of `length` voxels: a map (B, C, H, W, D) an axis."""
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
        (len(axes)·B·L, C, h, w), channels-last.
    """
    folded = torch.cat([x.movedim((axis + 2, 1), (1, 4)) for axis in axes])
    return folded.flatten(0, 1).permute(0, 3, 1, 2)


def unfold_from_batch(planes: Tensor, axes: Sequence[int], *, length: int) -> list[Tensor]:
    """Undo `fold_into_batch` for axes of `length` voxels: a map (B, C, H, W, D) an axis."""
    unfolded = planes.permute(0, 2, 3, 1).unflatten(0, (-1, length))
    return [
        part.movedim((1, 4), (axis + 2, 1))
        for part, axis in zip(unfolded.chunk(len(axes)), axes, strict=True)
    ]
