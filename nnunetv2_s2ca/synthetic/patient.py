"""A synthetic glioma patient: four MRI modalities and the true segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunetv2_s2ca.synthetic.anatomy import Tissues, make_tissues, smooth_noise
from nnunetv2_s2ca.synthetic.tumour import ENHANCING, GRADES, NECROSIS, OEDEMA, Grade, make_tumour

MODALITIES = ("t1", "t1ce", "t2", "flair")

# Signal of tissue in each modality, relative to white matter on T1, by the rules of thumb of
# neuroradiology. T1: water dark. T1ce: as T1, but a leaky blood-brain barrier shines. T2: water
# bright. FLAIR: as T2, but free water dark.
TISSUE_SIGNAL: Mapping[str, Mapping[str, float]] = {
    "t1": {"white_matter": 1.0, "grey_matter": 0.75, "cerebrospinal_fluid": 0.35},
    "t1ce": {"white_matter": 1.0, "grey_matter": 0.78, "cerebrospinal_fluid": 0.37},
    "t2": {"white_matter": 0.6, "grey_matter": 0.8, "cerebrospinal_fluid": 1.7},
    "flair": {"white_matter": 0.7, "grey_matter": 0.9, "cerebrospinal_fluid": 0.25},
}
TUMOUR_SIGNAL: Mapping[str, Mapping[int, float]] = {
    "t1": {NECROSIS: 0.45, OEDEMA: 0.68, ENHANCING: 0.65},
    "t1ce": {NECROSIS: 0.47, OEDEMA: 0.7, ENHANCING: 1.5},
    "t2": {NECROSIS: 1.5, OEDEMA: 1.3, ENHANCING: 1.1},
    "flair": {NECROSIS: 1.05, OEDEMA: 1.5, ENHANCING: 1.3},
}
# a low-grade core without enhancement is solid, not necrotic
SOLID_SIGNAL: Mapping[str, float] = {"t1": 0.5, "t1ce": 0.55, "t2": 1.45, "flair": 1.25}

SIGNAL_VARIATION = 0.04  # relative standard deviation of a tissue's signal between patients
TEXTURE = 0.05  # relative standard deviation within a tumour
TEXTURE_WAVELENGTH = 10.0  # mm
BIAS = 0.07  # relative standard deviation of the coil's sensitivity over the brain
BIAS_WAVELENGTH = 120.0  # mm
NOISE = (0.02, 0.05)  # of white matter's signal on T1
SCANNER_SCALE = (300.0, 1200.0)  # scanners' units are arbitrary


@dataclass(frozen=True)
class Patient:
    """A skull-stripped patient as in BraTS.

    Attributes:
        images: Modality ("t1", "t1ce", "t2", "flair") → (X, Y, Z) int16, 0 outside the brain and
            positive inside.
        segmentation: (X, Y, Z) uint8, 0 background, 1 necrosis or non-enhancing, 2 oedema, 4
            enhancing.
        affine: (4, 4) from voxels to mm, axes to the left, back and top, as in BraTS.
        grade: "HGG" or "LGG".
    """

    images: Mapping[str, NDArray[np.int16]]
    segmentation: NDArray[np.uint8]
    affine: NDArray[np.float64]
    grade: Grade


def make_patient(
    seed: int,
    *,
    shape: tuple[int, int, int] = (64, 72, 56),
    spacing: float = 3.0,
    grade: Grade | None = None,
) -> Patient:
    """Generate a patient with a glioma; equal arguments give an equal patient.

    Args:
        seed: Determines everything that is drawn.
        shape: Voxels (X, Y, Z) to the left, back and top. A brain fills about 160×200×165 mm; the
            rest of a larger one is cut off.
        spacing: In mm, the same along all axes.
        grade: "HGG" or "LGG"; if None, one patient in four is low grade.

    Raises:
        ValueError: The volume is too small to hold the middle of a brain.
    """
    rng, drawn, tissues = draw_anatomy(seed, shape=shape, spacing=spacing)
    grade = grade or drawn
    segmentation = make_tumour(rng, tissues, spacing=spacing, grade=grade)
    images = {
        modality: _acquire(rng, modality, tissues, segmentation, spacing=spacing, grade=grade)
        for modality in MODALITIES
    }
    return Patient(images, segmentation, brats_affine(shape, spacing), grade)


def draw_anatomy(
    seed: int, *, shape: tuple[int, int, int], spacing: float
) -> tuple[np.random.Generator, Grade, Tissues]:
    """The generator of a patient, a grade, and tissues without a tumour.

    Raises:
        ValueError: The volume is too small to hold the middle of a brain.
    """
    if min(shape) * spacing < 60:
        raise ValueError(
            f"a volume of {shape} voxels of {spacing} mm cannot hold a brain with a tumour; at "
            f"least 60 mm along each axis are needed, and 160×200×165 mm for a whole brain"
        )
    rng = np.random.default_rng(seed)
    grade: Grade = GRADES[int(rng.random() < 0.25)]
    return rng, grade, make_tissues(rng, shape=shape, spacing=spacing)


def brats_affine(shape: tuple[int, int, int], spacing: float) -> NDArray[np.float64]:
    """From voxels to mm as in BraTS: SRI24's corner, the origin at the left and the back."""
    affine = np.diag([-spacing, -spacing, spacing, 1.0])
    affine[1, 3] = spacing * (shape[1] - 1)
    return affine


def _acquire(
    rng: np.random.Generator,
    modality: str,
    tissues: Tissues,
    segmentation: NDArray[np.uint8],
    *,
    spacing: float,
    grade: Grade,
) -> NDArray[np.int16]:
    """One modality: signal of each tissue, texture, coil's sensitivity, noise, scanner's units."""

    def vary(signal: float) -> float:
        return signal * rng.normal(1, SIGNAL_VARIATION)

    shape, brain = segmentation.shape, tissues.brain
    healthy = sum(
        vary(signal) * getattr(tissues, name) for name, signal in TISSUE_SIGNAL[modality].items()
    )
    signals = dict(TUMOUR_SIGNAL[modality])
    if grade == "LGG":
        signals[NECROSIS] = SOLID_SIGNAL[modality]
    texture = 1 + TEXTURE * smooth_noise(rng, shape, TEXTURE_WAVELENGTH / spacing)
    # partial volume at borders
    fractions = {
        label: ndimage.gaussian_filter((segmentation == label).astype(np.float32), 0.4)
        for label in signals
    }
    tumour = sum(vary(signals[label]) * texture * fractions[label] for label in signals)
    image = healthy * (1 - sum(fractions.values())) + tumour
    image *= np.exp(BIAS * smooth_noise(rng, shape, BIAS_WAVELENGTH / spacing))
    return digitise(rng, image, brain, noise=rng.uniform(*NOISE))


def digitise(
    rng: np.random.Generator, image: NDArray[np.float32], brain: NDArray[np.bool_], *, noise: float
) -> NDArray[np.int16]:
    """Add noise of a standard deviation to a signal (X, Y, Z), and convert to a scanner's units."""
    # the magnitude of a complex signal, so the noise is Rician
    real, imaginary = noise * rng.standard_normal((2, *image.shape))
    image = np.hypot(image + real, imaginary) * rng.uniform(*SCANNER_SCALE)
    return np.where(brain, np.clip(np.rint(image), 1, np.iinfo(np.int16).max), 0).astype(np.int16)
