"""A volume as three stacks of planes: fold one axis away, work in 2D, put it back.

`axis` counts the spatial axes, 0 for H, 1 for W, 2 for D.
"""

from __future__ import annotations

from torch import Tensor


def fold_into_channels(x: Tensor, axis: int) -> Tensor:
    """(B, C, H, W, D) → (B, C·L, two other axes), L the folded axis' length, channel-major."""
    return x.movedim(axis + 2, 2).flatten(1, 2)


def unfold_from_channels(planes: Tensor, axis: int, *, length: int) -> Tensor:
    """Undo `fold_into_channels` for an axis of `length` voxels."""
    return planes.unflatten(1, (-1, length)).movedim(2, axis + 2)


def fold_into_batch(x: Tensor, axis: int) -> Tensor:
    """(B, C, H, W, D) → (B·L, C, two other axes), L the folded axis' length."""
    return x.movedim(axis + 2, 1).flatten(0, 1)


def unfold_from_batch(planes: Tensor, axis: int, *, length: int) -> Tensor:
    """Undo `fold_into_batch` for an axis of `length` voxels."""
    return planes.unflatten(0, (-1, length)).movedim(1, axis + 2)
