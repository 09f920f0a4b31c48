"""Hard gliomas: one to four foci of very different sizes that push healthy tissue aside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunetv2_s2ca.synthetic.anatomy import Tissues, smooth_noise
from nnunetv2_s2ca.synthetic.cohort import Cohort
from nnunetv2_s2ca.synthetic.tumour import (
    BUMP_WAVELENGTH,
    RIM_WIDTH,
    Grade,
    choose_centre,
    ellipsoid,
    labelled,
)

# position of the most frequent size between smallest and largest, on a logarithmic scale
MODE = 0.65
# volume of a further focus, relative to the largest
SATELLITE_VOLUME = (0.02, 0.5)
OEDEMA_WIDTH = (3.0, 14.0)  # mm
NODULE = 0.45  # radius of low grade's enhancing nodule, relative to the core's
# depth below the brain's surface from which tissue moves freely
STIFF_DEPTH = 15.0  # mm


@dataclass(frozen=True)
class Focus:
    """One of a patient's tumour cores.

    Attributes:
        centre: voxel.
        radius: mm, of the ball of its volume.
        distance: (X, Y, Z), mm from its surface, negative inside.
    """

    centre: NDArray[np.intp]
    radius: float
    distance: NDArray[np.float32]


def draw_foci(
    rng: np.random.Generator, tissues: Tissues, *, spacing: float, cohort: Cohort
) -> list[Focus]:
    """Draw place, size and shape of a patient's tumour cores, the largest first."""
    least, most = cohort.foci
    number = int(rng.integers(least + 1, most + 1)) if rng.random() < cohort.multifocal else least
    smallest, largest = np.log(cohort.core_volume)
    mode = smallest + MODE * (largest - smallest)
    volume = np.exp(rng.triangular(smallest, mode, largest))
    volumes = [volume, *(volume * rng.uniform(*SATELLITE_VOLUME, number - 1))]
    depth = ndimage.distance_transform_edt(tissues.brain) * spacing
    shape = tissues.brain.shape
    foci = []
    for millilitres in volumes:
        radius = float((3 * 1000 * millilitres / (4 * np.pi)) ** (1 / 3))
        centre = choose_centre(rng, tissues, depth)
        distance = ellipsoid(rng, centre, radius, shape, spacing)
        distance += 0.15 * radius * smooth_noise(rng, shape, BUMP_WAVELENGTH / spacing)
        distance[tuple(centre)] = min(distance[tuple(centre)], -0.5)  # the smallest have a voxel
        foci.append(Focus(centre, radius, distance))
    return foci


def displace(
    rng: np.random.Generator,
    tissues: Tissues,
    foci: list[Focus],
    *,
    spacing: float,
    cohort: Cohort,
) -> Tissues:
    """Push healthy tissue away from the foci; the brain's surface does not move."""
    shape = tissues.brain.shape
    grid = np.indices(shape, dtype=np.float32)
    depth = ndimage.distance_transform_edt(tissues.brain) * spacing
    loose = np.clip(depth / STIFF_DEPTH, 0, 1).astype(np.float32)
    source = grid.copy()
    for focus in foci:
        offsets = grid - focus.centre.reshape(3, 1, 1, 1)
        direction = offsets / np.maximum(np.linalg.norm(offsets, axis=0), 1)
        reach = np.exp(-np.maximum(focus.distance, 0) / focus.radius)
        push = rng.uniform(*cohort.mass_effect) * focus.radius / spacing
        source -= push * reach * loose * direction
    return Tissues(
        *(
            ndimage.map_coordinates(tissue, source, order=1) * tissues.brain
            for tissue in (tissues.white_matter, tissues.grey_matter, tissues.cerebrospinal_fluid)
        )
    )


def segment(
    rng: np.random.Generator,
    tissues: Tissues,
    foci: list[Focus],
    *,
    spacing: float,
    grade: Grade,
    cohort: Cohort,
) -> NDArray[np.uint8]:
    """The segmentation of the foci in BraTS labels: necrosis, enhancing rim, oedema.

    Returns:
        (X, Y, Z) with 0 background, 1 necrosis or non-enhancing, 2 oedema, 4 enhancing.
    """
    shape = tissues.brain.shape
    wavelength = BUMP_WAVELENGTH / spacing
    core, oedema, enhancing = (np.zeros(shape, bool) for _ in range(3))
    affinity = 0.4 + 1.2 * tissues.white_matter - 1.5 * tissues.cerebrospinal_fluid
    enhances = rng.random() < cohort.enhancing[grade == "LGG"]
    for focus in foci:
        own = (focus.distance < 0) & tissues.brain
        core |= own
        # small tumours have little oedema
        width = min(rng.uniform(*OEDEMA_WIDTH), focus.radius + OEDEMA_WIDTH[0])
        reach = width * (affinity + 0.3 * smooth_noise(rng, shape, wavelength))
        oedema |= focus.distance < reach
        if not enhances:
            continue
        if grade == "HGG":
            rim = rng.uniform(*RIM_WIDTH) + 1.5 * smooth_noise(rng, shape, wavelength)
            enhancing |= own & (focus.distance > -np.maximum(rim, spacing))
        else:
            inside = np.argwhere(own)
            centre = inside[rng.integers(len(inside))]
            nodule = ellipsoid(rng, centre, max(NODULE * focus.radius, spacing), shape, spacing)
            enhancing |= own & (nodule < 0)
    oedema &= tissues.brain & (tissues.cerebrospinal_fluid < 0.5)
    return labelled(core, oedema, enhancing)
