"""What shines as a tumour does and is none: small lesions of white matter, and vessels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunetv2_s2ca.synthetic.anatomy import Tissues
from nnunetv2_s2ca.synthetic.cohort import Cohort
from nnunetv2_s2ca.synthetic.tumour import ellipsoid

LESION_RADIUS = (2.5, 7.0)  # mm
VESSEL_LENGTH = (25.0, 70.0)  # mm
VESSEL_FILLING = (0.4, 0.9)  # of a voxel's volume, at 5 mm
STEP = 2.0  # mm, between two points of a vessel's path
TURN = 0.35  # how much a vessel's direction changes at a step


def draw_lesions(
    rng: np.random.Generator,
    tissues: Tissues,
    tumour: NDArray[np.bool_],
    *,
    spacing: float,
    cohort: Cohort,
) -> NDArray[np.float32]:
    """Small lesions in white matter, away from the tumour: fraction of each voxel (X, Y, Z)."""
    shape = tumour.shape
    apart = ~ndimage.binary_dilation(tumour, iterations=2)
    candidates = np.argwhere(apart & (tissues.white_matter > 0.6))
    lesions = np.zeros(shape, np.float32)
    for _ in range(rng.integers(cohort.lesions[0], cohort.lesions[1] + 1)):
        centre = candidates[rng.integers(len(candidates))]
        distance = ellipsoid(rng, centre, rng.uniform(*LESION_RADIUS), shape, spacing)
        # a voxel on the surface is half a lesion
        np.maximum(lesions, np.clip(0.5 - distance / spacing, 0, 1), out=lesions)
    return lesions * (apart & tissues.brain)


def draw_vessels(
    rng: np.random.Generator,
    tissues: Tissues,
    tumour: NDArray[np.bool_],
    *,
    spacing: float,
    cohort: Cohort,
) -> NDArray[np.float32]:
    """Vessels that start in sulci and wander: fraction of each voxel (X, Y, Z)."""
    shape = tumour.shape
    vessels = np.zeros(shape, np.float32)
    starts = np.argwhere(tissues.brain & (tissues.cerebrospinal_fluid > 0.3))
    for _ in range(rng.integers(cohort.vessels[0], cohort.vessels[1] + 1)):
        steps = int(rng.uniform(*VESSEL_LENGTH) / STEP)
        direction = rng.standard_normal(3)
        path = [starts[rng.integers(len(starts))].astype(float)]
        for turn in TURN * rng.standard_normal((steps, 3)):
            direction = direction / np.linalg.norm(direction) + turn
            path.append(path[-1] + direction * STEP / spacing)
        voxels = np.clip(np.rint(path).astype(int), 0, np.array(shape) - 1)
        filling = min(rng.uniform(*VESSEL_FILLING) * (5.0 / spacing) ** 2, 1.0)
        vessels[tuple(voxels.T)] = filling
    return vessels * (tissues.brain & ~tumour)
