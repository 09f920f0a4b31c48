"""Bright structures that resemble tumour: small lesions of white matter, and vessels."""

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


def draw_distractors(
    rng: np.random.Generator,
    tissues: Tissues,
    tumour: NDArray[np.bool_],
    *,
    spacing: float,
    cohort: Cohort,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Small lesions in white matter away from the tumour, and vessels that start in sulci.

    Returns:
        The fraction of each voxel (X, Y, Z) in lesions, and in vessels.
    """
    apart = ~ndimage.binary_dilation(tumour, iterations=2)
    matter = apart & (tissues.white_matter > 0.6)
    lesions = _draw_lesions(rng, matter, spacing, _count(rng, cohort.lesions))
    sulci = tissues.brain & (tissues.cerebrospinal_fluid > 0.3)
    vessels = _draw_vessels(rng, sulci, spacing, _count(rng, cohort.vessels))
    return lesions * (apart & tissues.brain), vessels * (tissues.brain & ~tumour)


def _count(rng: np.random.Generator, bounds: tuple[int, int]) -> int:
    return int(rng.integers(bounds[0], bounds[1] + 1))


def _draw_lesions(
    rng: np.random.Generator, matter: NDArray[np.bool_], spacing: float, count: int
) -> NDArray[np.float32]:
    candidates = np.argwhere(matter)
    lesions = np.zeros(matter.shape, np.float32)
    for _ in range(count):
        centre = candidates[rng.integers(len(candidates))]
        distance = ellipsoid(rng, centre, rng.uniform(*LESION_RADIUS), matter.shape, spacing)
        # a voxel on the surface is half a lesion
        np.maximum(lesions, np.clip(0.5 - distance / spacing, 0, 1), out=lesions)
    return lesions


def _draw_vessels(
    rng: np.random.Generator, sulci: NDArray[np.bool_], spacing: float, count: int
) -> NDArray[np.float32]:
    starts = np.argwhere(sulci)
    vessels = np.zeros(sulci.shape, np.float32)
    for _ in range(count):
        steps = int(rng.uniform(*VESSEL_LENGTH) / STEP)
        direction = rng.standard_normal(3)
        path = [starts[rng.integers(len(starts))].astype(float)]
        for turn in TURN * rng.standard_normal((steps, 3)):
            direction = direction / np.linalg.norm(direction) + turn
            path.append(path[-1] + direction * STEP / spacing)
        voxels = np.clip(np.rint(path).astype(int), 0, np.array(sulci.shape) - 1)
        filling = min(rng.uniform(*VESSEL_FILLING) * (5.0 / spacing) ** 2, 1.0)
        vessels[tuple(voxels.T)] = filling
    return vessels
