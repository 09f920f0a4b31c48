"""Healthy brains: tissue fractions from the MNI152 template, deformed for each patient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

# strength of the individual anatomy
MAX_ROTATION = 6.0  # degrees about each axis
MAX_SCALING = 0.06  # relative, along each axis
BENDING = 2.5  # mm, standard deviation of the displacement
BENDING_WAVELENGTH = 35.0  # mm

# share of a voxel's volume; voxels with less are outside the brain
MIN_TISSUE = 0.25


@dataclass(frozen=True)
class Tissues:
    """Fractions of a voxel's volume, each (X, Y, Z) float32; outside the brain all are 0."""

    white_matter: NDArray[np.float32]
    grey_matter: NDArray[np.float32]
    cerebrospinal_fluid: NDArray[np.float32]

    @property
    def brain(self) -> NDArray[np.bool_]:
        """Mask of the brain, including ventricles and sulci."""
        return self.white_matter + self.grey_matter + self.cerebrospinal_fluid > 0


def make_tissues(
    rng: np.random.Generator, *, shape: tuple[int, int, int], spacing: float
) -> Tissues:
    """Draw a healthy brain in the centre of a grid with axes to the left, back and top.

    Args:
        rng: Draws the individual anatomy: mirroring, rotation, scaling, bending.
        shape: Voxels (X, Y, Z).
        spacing: In mm, the same along all axes.
    """
    template, centre, to_voxels = _template(spacing)
    grid = np.indices(shape, dtype=np.float32) - (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2
    points = grid * spacing
    points[:2] *= -1  # the template's coordinates run to the right and to the front
    angles = rng.uniform(-MAX_ROTATION, MAX_ROTATION, 3)
    linear = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    linear = linear * rng.uniform(1 - MAX_SCALING, 1 + MAX_SCALING, 3)
    if rng.random() < 0.5:
        linear[0] *= -1
    points = np.einsum("ij,j...->i...", linear, points)
    points += BENDING * np.stack(
        [smooth_noise(rng, shape, BENDING_WAVELENGTH / spacing) for _ in range(3)]
    )
    points += centre.reshape(3, 1, 1, 1)
    indices = np.einsum("ij,j...->i...", to_voxels[:3, :3], points)
    indices += to_voxels[:3, 3].reshape(3, 1, 1, 1)
    white, grey, inside = (ndimage.map_coordinates(map_, indices, order=1) for map_ in template)
    brain = ndimage.binary_fill_holes(inside > 0.5) & (inside + white + grey > MIN_TISSUE)
    fluid = 1 - np.clip(white + grey, 0, 1)
    # fractions of a voxel add up to at most 1
    excess = np.maximum(white + grey, 1)
    return Tissues(
        *((tissue * brain).astype(np.float32) for tissue in (white / excess, grey / excess, fluid))
    )


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int, int], wavelength: float
) -> NDArray[np.float32]:
    """Random field (X, Y, Z), mean 0, standard deviation 1, that varies over `wavelength` voxels.

    The sum of Gaussians of random height on the knots of a coarse grid; since Gaussians factorise,
    this takes one small matrix product per axis.
    """
    width = wavelength / 4
    bumps = []
    for size in shape:
        knots = np.arange(-2 * width, size + 2 * width, width)
        distances = (np.arange(size)[:, None] - knots) / width
        bumps.append(np.exp(-(distances**2) / 2).astype(np.float32))
    heights = rng.standard_normal([bump.shape[1] for bump in bumps], np.float32)
    field = np.einsum("xi,yj,zk,ijk->xyz", *bumps, heights, optimize=True)
    return (field - field.mean()) / field.std()


@cache
def _template(spacing: float) -> tuple[NDArray[np.float32], NDArray, NDArray]:
    """White matter, grey matter and brain mask of MNI152, blurred to voxels of `spacing` mm.

    Returns:
        Maps (3, X, Y, Z), the brain's centre (mm), and the matrix (4, 4) from mm to voxels.
    """
    # nilearn ships these maps, so nothing is downloaded; its import takes a second
    from nilearn import datasets

    white = datasets.load_mni152_wm_template()
    grey = datasets.load_mni152_gm_template()
    mask = datasets.load_mni152_brain_mask()
    maps = np.stack([np.asarray(image.dataobj, np.float32) for image in (white, grey, mask)])
    # the mask follows the sulci, unlike those of skull stripping
    maps[2] = ndimage.binary_closing(maps[2], iterations=4)
    centre = np.append(ndimage.center_of_mass(maps[2]), 1)
    # blur about as much as a voxel averages
    maps = np.stack([ndimage.gaussian_filter(map_, spacing / 3) for map_ in maps])
    return maps, (white.affine @ centre)[:3], np.linalg.inv(white.affine)
