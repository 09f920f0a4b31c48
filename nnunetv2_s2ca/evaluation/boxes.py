"""Bounding boxes of masks, to restrict work to the tumour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Box = tuple[slice, ...]


def bounding_box(mask: np.ndarray) -> Box:
    """The smallest box around the true voxels; a single voxel where there are none."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        box.append(slice(inside[0], inside[-1] + 1) if len(inside) else slice(0, 1))
    return tuple(box)


def hull(boxes: Sequence[Box]) -> Box:
    """The smallest box around all `boxes`."""
    return tuple(
        slice(min(part.start for part in axis), max(part.stop for part in axis))
        for axis in zip(*boxes, strict=True)
    )


def grown(box: Box, voxels: int, shape: tuple[int, ...]) -> Box:
    """`box` grown by `voxels` on all sides, within an array of `shape`."""
    return tuple(
        slice(max(part.start - voxels, 0), min(part.stop + voxels, size))
        for part, size in zip(box, shape, strict=True)
    )
