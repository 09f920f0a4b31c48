"""Synthetic patients that no threshold segments, with the difficulties of real ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunetv2_s2ca.synthetic.anatomy import Tissues, smooth_noise
from nnunetv2_s2ca.synthetic.cohort import FIRST_HOSPITAL, Cohort
from nnunetv2_s2ca.synthetic.distractors import draw_distractors
from nnunetv2_s2ca.synthetic.foci import displace, draw_foci, segment
from nnunetv2_s2ca.synthetic.patient import (
    BIAS_WAVELENGTH,
    MODALITIES,
    SOLID_SIGNAL,
    TEXTURE,
    TEXTURE_WAVELENGTH,
    TISSUE_SIGNAL,
    TUMOUR_SIGNAL,
    Patient,
    brats_affine,
    digitise,
    draw_anatomy,
)
from nnunetv2_s2ca.synthetic.tumour import NECROSIS, OEDEMA, Grade

# flowing blood is dark on T2 and FLAIR; contrast agent makes it bright
VESSEL_SIGNAL: Mapping[str, float] = {"t1": 0.6, "t1ce": 1.7, "t2": 0.3, "flair": 0.3}
HEALTHY_WAVELENGTH = 25.0  # mm, of the texture of healthy tissue
GHOST_SHIFT = (0.15, 0.5)  # of the volume, along the axis of motion


def make_hard_patient(
    seed: int,
    *,
    shape: tuple[int, int, int] = (64, 72, 56),
    spacing: float = 3.0,
    grade: Grade | None = None,
    cohort: Cohort = FIRST_HOSPITAL,
) -> Patient:
    """Draw a patient of a hard cohort; equal arguments give an equal patient.

    Args:
        seed: Determines everything that is drawn.
        shape: Voxels (X, Y, Z), as for `make_patient`.
        spacing: In mm, the same along all axes.
        grade: "HGG" or "LGG"; if None, one patient in four is low grade.
        cohort: The ranges to draw from.

    Raises:
        ValueError: The volume is too small to hold the middle of a brain.
    """
    rng, drawn, tissues = draw_anatomy(seed, shape=shape, spacing=spacing)
    grade = grade or drawn
    foci = draw_foci(rng, tissues, spacing=spacing, cohort=cohort)
    tissues = displace(rng, tissues, foci, spacing=spacing, cohort=cohort)
    segmentation = segment(rng, tissues, foci, spacing=spacing, grade=grade, cohort=cohort)
    tumour = segmentation > 0
    fractions = {
        label: ndimage.gaussian_filter((segmentation == label).astype(np.float32), 0.4)
        for label in TUMOUR_SIGNAL["t1"]
    }
    lesions, vessels = draw_distractors(rng, tissues, tumour, spacing=spacing, cohort=cohort)
    scanner = _Scanner(rng, shape, spacing, cohort)
    wavelength = HEALTHY_WAVELENGTH / spacing
    images = {}
    for modality in MODALITIES:
        signal = _healthy(rng, tissues, modality, cohort)
        signal = signal * (1 + rng.uniform(*cohort.texture) * smooth_noise(rng, shape, wavelength))
        inside = dict(TUMOUR_SIGNAL[modality])
        if grade == "LGG":
            inside[NECROSIS] = SOLID_SIGNAL[modality]
        grey = TISSUE_SIGNAL[modality]["grey_matter"]
        conspicuity = rng.uniform(
            *(cohort.enhancement if modality == "t1ce" else cohort.conspicuity)
        )
        inside = {label: grey + conspicuity * (value - grey) for label, value in inside.items()}
        texture = 1 + TEXTURE * smooth_noise(rng, shape, TEXTURE_WAVELENGTH / spacing)
        signal = _mix(signal, lesions, inside[OEDEMA])
        signal = _mix(signal, vessels, VESSEL_SIGNAL[modality])
        signal = signal * (1 - sum(fractions.values()))
        signal = signal + sum(inside[label] * texture * fractions[label] for label in inside)
        images[modality] = scanner.acquire(signal, tissues.brain)
    return Patient(images, segmentation, brats_affine(shape, spacing), grade)


def _healthy(
    rng: np.random.Generator, tissues: Tissues, modality: str, cohort: Cohort
) -> NDArray[np.float32]:
    """Signal of healthy tissue (X, Y, Z) in the contrast of one scanner."""
    signals = TISSUE_SIGNAL[modality]
    middle = np.mean(list(signals.values()))
    contrast = rng.uniform(*cohort.contrast)
    return sum(
        (middle + contrast * (value - middle)) * getattr(tissues, name)
        for name, value in signals.items()
    )


def _mix(
    signal: NDArray[np.float32], fraction: NDArray[np.float32], other: float
) -> NDArray[np.float32]:
    return signal + fraction * (other - signal)


class _Scanner:
    """A scanner's response, coil, noise and the patient's motion, new for each modality."""

    def __init__(
        self,
        rng: np.random.Generator,
        shape: tuple[int, int, int],
        spacing: float,
        cohort: Cohort,
    ):
        self.rng, self.shape, self.spacing, self.cohort = rng, shape, spacing, cohort

    def acquire(self, signal: NDArray[np.float32], brain: NDArray[np.bool_]) -> NDArray[np.int16]:
        rng, cohort = self.rng, self.cohort
        image = np.maximum(signal, 0) ** rng.uniform(*cohort.gamma)
        axis = int(rng.integers(3))
        blur = rng.uniform(*cohort.blur) / self.spacing
        image = ndimage.gaussian_filter1d(image, blur, axis=axis) if blur else image
        shift = int(rng.uniform(*GHOST_SHIFT) * self.shape[axis])
        image = image + rng.uniform(*cohort.ghost) * np.roll(image, shift, axis=axis)
        wavelength = BIAS_WAVELENGTH / self.spacing
        image = image * np.exp(
            rng.uniform(*cohort.bias) * smooth_noise(rng, self.shape, wavelength)
        )
        return digitise(rng, image, brain, noise=rng.uniform(*cohort.noise))
