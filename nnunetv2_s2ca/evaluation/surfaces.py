"""Distances in mm between the surfaces of two masks.

Two definitions of a surface are in use, and they give different results:

- *boundary voxels*: voxels of a mask with at least one of their six neighbours outside it, each
  with weight 1. Used by MONAI, medpy and panoptica.
- *surface elements* (surfels): corners between voxels where a marching-cubes surface passes, each
  weighted by its area in mm². Used by the package surface-distance.

Both use a k-d tree of the surface points instead of a distance transform of all voxels, which
takes several times as long for the same results.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.spatial import cKDTree
from surface_distance import lookup_tables

Spacing = tuple[float, float, float]

# Distances often equal the tolerance, for example the width of a voxel.
ROUNDING = 1e-6


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between the surfaces of two non-empty masks.

    Attributes:
        from_reference: Distance in mm from every point of the reference's surface to the
            prediction's, float64 of shape `(N,)`.
        from_prediction: The same in the other direction, shape `(M,)`.
        reference_areas: Weight of each point of the reference's surface, shape `(N,)`.
        prediction_areas: The same for the prediction, shape `(M,)`.
    """

    from_reference: np.ndarray
    from_prediction: np.ndarray
    reference_areas: np.ndarray
    prediction_areas: np.ndarray


def boundary_distances(
    reference: np.ndarray, prediction: np.ndarray, *, spacing: Spacing
) -> SurfaceDistances:
    """Distances between the boundary voxels of two masks, each with weight 1.

    Args:
        reference: Boolean mask of shape `(H, W, D)`, not empty. Voxels beyond the array's border
            count as outside.
        prediction: The same.
        spacing: Voxel size in mm along each axis.
    """
    first, second = _boundary(reference), _boundary(prediction)
    from_reference, from_prediction = _between(first, second, spacing)
    return SurfaceDistances(
        from_reference,
        from_prediction,
        np.ones_like(from_reference),
        np.ones_like(from_prediction),
    )


def surfel_distances(
    reference: np.ndarray, prediction: np.ndarray, *, spacing: Spacing
) -> SurfaceDistances:
    """Distances between the surface elements of two masks, each weighted by its area in mm².

    Equals `surface_distance.compute_surface_distances` up to the order of the points. Only that
    package's tables are used: its release on PyPI uses names that numpy 2 and scipy 2 removed.

    Args:
        reference: Boolean mask of shape `(H, W, D)`, not empty.
        prediction: The same.
        spacing: Voxel size in mm along each axis.
    """
    areas = _surfel_areas(spacing)
    reference_codes, prediction_codes = _neighbour_codes(reference), _neighbour_codes(prediction)
    # 0 and 255 are corners entirely outside and entirely inside
    first = (reference_codes != 0) & (reference_codes != 255)
    second = (prediction_codes != 0) & (prediction_codes != 255)
    from_reference, from_prediction = _between(first, second, spacing)
    return SurfaceDistances(
        from_reference,
        from_prediction,
        areas[reference_codes[first]],
        areas[prediction_codes[second]],
    )


def hd95_of_boundaries(distances: SurfaceDistances) -> float:
    """The larger of the two directed 95th percentiles, in mm.

    As in MONAI's `compute_hausdorff_distance(..., percentile=95)` and in Taha and Hanbury, BMC
    Medical Imaging 15:29 (2015). Percentiles interpolate linearly.
    """
    return float(
        max(
            np.percentile(distances.from_reference, 95),
            np.percentile(distances.from_prediction, 95),
        )
    )


def hd95_pooled(distances: SurfaceDistances) -> float:
    """The 95th percentile of the pooled distances of both directions, in mm.

    As in medpy's `hd95` and in panoptica, which `brats-evaluation` uses.
    """
    pooled = np.concatenate([distances.from_reference, distances.from_prediction])
    return float(np.percentile(pooled, 95))


def hd95_of_surfels(distances: SurfaceDistances) -> float:
    """The larger of the two directed 95th percentiles by area, in mm.

    As in `surface_distance.compute_robust_hausdorff(..., 95)`.
    """
    return max(
        _percentile_by_area(distances.from_reference, distances.reference_areas),
        _percentile_by_area(distances.from_prediction, distances.prediction_areas),
    )


def surface_dice(distances: SurfaceDistances, *, tolerance: float) -> float:
    """Share of both surfaces, by area, within `tolerance` mm of the other.

    The normalised surface Dice of Nikolov et al., J Med Internet Res 23(7):e26151 (2021), as in
    `surface_distance.compute_surface_dice_at_tolerance`.
    """
    near_reference = distances.from_reference <= tolerance + ROUNDING
    near_prediction = distances.from_prediction <= tolerance + ROUNDING
    within = (
        distances.reference_areas[near_reference].sum()
        + distances.prediction_areas[near_prediction].sum()
    )
    return float(within / (distances.reference_areas.sum() + distances.prediction_areas.sum()))


def surface_dice_of_shares(distances: SurfaceDistances, *, tolerance: float) -> float:
    """Mean of the two shares of boundary voxels within `tolerance` mm of the other surface.

    As in panoptica, which `brats-evaluation` uses.
    """
    return float(
        (
            np.mean(distances.from_reference <= tolerance + ROUNDING)
            + np.mean(distances.from_prediction <= tolerance + ROUNDING)
        )
        / 2
    )


def _boundary(mask: np.ndarray) -> np.ndarray:
    """The voxels of `mask` with at least one of their six neighbours outside it."""
    padded = np.pad(mask, 1)
    inside = mask.copy()
    for axis in range(3):
        for start in (0, 2):
            window = [slice(1, -1)] * 3
            window[axis] = slice(start, start + mask.shape[axis])
            inside &= padded[tuple(window)]
    return mask & ~inside


def _neighbour_codes(mask: np.ndarray) -> np.ndarray:
    """For each corner between voxels, a bit for each of its eight voxels that is inside.

    Returns:
        uint8 array of shape `(H + 1, W + 1, D + 1)`.
    """
    padded = np.pad(mask, 1).view(np.uint8)
    shape = tuple(size + 1 for size in mask.shape)
    codes = np.zeros(shape, dtype=np.uint8)
    for offset, bit in np.ndenumerate(lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL):
        window = tuple(slice(o, o + n) for o, n in zip(offset, shape, strict=True))
        codes += padded[window] * np.uint8(bit)
    return codes


@lru_cache(maxsize=16)
def _surfel_areas(spacing: Spacing) -> np.ndarray:
    """Area in mm² of the surface within each of the 256 neighbourhoods."""
    return lookup_tables.create_table_neighbour_code_to_surface_area(spacing)


def _between(
    first: np.ndarray, second: np.ndarray, spacing: Spacing
) -> tuple[np.ndarray, np.ndarray]:
    """Distances from the true voxels of `first` to `second` and back, in voxel order.

    Shared voxels have distance zero and need no search.
    """
    first_points, second_points = _points(first), _points(second)
    return (
        _to_nearest(first_points, second[first], second_points, spacing),
        _to_nearest(second_points, first[second], first_points, spacing),
    )


def _points(mask: np.ndarray) -> np.ndarray:
    """Indices of the true voxels, shape `(N, 3)`; `np.argwhere` takes ten times as long."""
    return np.column_stack(np.unravel_index(np.flatnonzero(mask), mask.shape))


def _to_nearest(
    points: np.ndarray, shared: np.ndarray, targets: np.ndarray, spacing: Spacing
) -> np.ndarray:
    distances = np.zeros(len(points))
    if shared.all():
        return distances
    tree = cKDTree(targets * spacing, balanced_tree=False, compact_nodes=False)
    apart = points[~shared]
    _, nearest = tree.query(apart * spacing)
    # From voxel indices, since the tree's distances suffer from rounding of large coordinates
    offsets = (apart - targets[nearest]) * spacing
    distances[~shared] = np.sqrt((offsets**2).sum(axis=1))
    return distances


def _percentile_by_area(distances: np.ndarray, areas: np.ndarray) -> float:
    order = np.lexsort((areas, distances))
    share = np.cumsum(areas[order]) / areas.sum()
    index = min(int(np.searchsorted(share, 0.95)), len(distances) - 1)
    return float(distances[order][index])
