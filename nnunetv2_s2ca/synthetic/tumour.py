"""Gliomas of varied shape, size and place: a core with necrosis and enhancing rim, in oedema."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunetv2_s2ca.synthetic.anatomy import Tissues, smooth_noise

Grade = Literal["HGG", "LGG"]
GRADES: tuple[Grade, ...] = get_args(Grade)

# BraTS up to 2022
NECROSIS, OEDEMA, ENHANCING = 1, 2, 4

# mm, ranges to draw from
CORE_RADIUS = {"HGG": (10.0, 22.0), "LGG": (11.0, 22.0)}
OEDEMA_WIDTH = {"HGG": (6.0, 16.0), "LGG": (4.0, 9.0)}
RIM_WIDTH = (4.0, 7.0)
BUMP_WAVELENGTH = 25.0  # of the surfaces
MIN_DEPTH = 8.0  # of a tumour's centre below the brain's surface

MULTIFOCAL = 0.15  # probability of a second, smaller focus in high grade
LGG_ENHANCING = 0.4  # probability that a low-grade glioma has an enhancing nodule


def make_tumour(
    rng: np.random.Generator, tissues: Tissues, *, spacing: float, grade: Grade
) -> NDArray[np.uint8]:
    """Draw the segmentation of a glioma in BraTS labels.

    A high-grade glioma has a necrotic core with an enhancing rim, within oedema; a low-grade one
    has a core without enhancement (also label 1 in BraTS), sometimes with an enhancing nodule.
    Oedema follows white matter and stops at ventricles and sulci.

    Args:
        rng: Draws shape, size and place.
        tissues: The healthy brain.
        spacing: In mm.
        grade: "HGG" or "LGG".

    Returns:
        (X, Y, Z) with 0 background, 1 necrosis or non-enhancing, 2 oedema, 4 enhancing.
    """
    shape = tissues.brain.shape
    depth = ndimage.distance_transform_edt(tissues.brain) * spacing
    radius = rng.uniform(*CORE_RADIUS[grade])
    to_core = ellipsoid(rng, choose_centre(rng, tissues, depth), radius, shape, spacing)
    if grade == "HGG" and rng.random() < MULTIFOCAL:
        second = choose_centre(rng, tissues, depth)
        to_core = np.minimum(to_core, ellipsoid(rng, second, 0.6 * radius, shape, spacing))
    wavelength = BUMP_WAVELENGTH / spacing
    to_core += 0.15 * radius * smooth_noise(rng, shape, wavelength)

    core = (to_core < 0) & tissues.brain
    width = rng.uniform(*OEDEMA_WIDTH[grade])
    reach = width * (0.4 + 1.2 * tissues.white_matter - 1.5 * tissues.cerebrospinal_fluid)
    reach += 0.3 * width * smooth_noise(rng, shape, wavelength)
    oedema = (to_core < reach) & tissues.brain & (tissues.cerebrospinal_fluid < 0.5)

    if grade == "HGG":
        rim = rng.uniform(*RIM_WIDTH) + 1.5 * smooth_noise(rng, shape, wavelength)
        enhancing = core & (to_core > -np.maximum(rim, spacing))
    elif rng.random() < LGG_ENHANCING:
        inside = np.argwhere(core)
        nodule = ellipsoid(rng, inside[rng.integers(len(inside))], 0.4 * radius, shape, spacing)
        enhancing = core & (nodule < 0)
    else:
        enhancing = np.zeros_like(core)

    return labelled(core, oedema, enhancing)


def choose_centre(
    rng: np.random.Generator, tissues: Tissues, depth: NDArray[np.floating]
) -> NDArray[np.intp]:
    """A voxel in white matter, where gliomas start, not too close to the surface."""
    candidates = np.argwhere((depth >= MIN_DEPTH) & (tissues.white_matter > 0.5))
    return candidates[rng.integers(len(candidates))]


def ellipsoid(
    rng: np.random.Generator,
    centre: NDArray[np.intp],
    radius: float,
    shape: tuple[int, ...],
    spacing: float,
) -> NDArray[np.float32]:
    """The approximate signed distance in mm from the surface of an ellipsoid; negative inside."""
    scales = rng.uniform(0.8, 1.25, 3)
    scales /= scales.prod() ** (1 / 3)  # keeps the volume of the ball
    grid = np.indices(shape, dtype=np.float32)
    offsets = (grid - centre.reshape(3, 1, 1, 1)) * spacing / scales.reshape(3, 1, 1, 1)
    return (np.linalg.norm(offsets, axis=0) - radius).astype(np.float32)


def labelled(
    core: NDArray[np.bool_], oedema: NDArray[np.bool_], enhancing: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """BraTS labels of masks (X, Y, Z); oedema apart from the core is left out."""
    segmentation = np.zeros(core.shape, np.uint8)
    segmentation[ndimage.binary_propagation(core, mask=core | oedema)] = OEDEMA
    segmentation[core] = NECROSIS
    segmentation[enhancing] = ENHANCING
    return segmentation
