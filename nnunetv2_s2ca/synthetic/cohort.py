"""The ranges from which the hard patients of two hospitals are drawn."""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class Cohort:
    """Ranges to draw the patients of a hospital from.

    Attributes:
        core_volume: ml of a patient's largest tumour core, from a triangle on a logarithmic scale.
        foci: least and most foci of a patient.
        multifocal: probability of more foci than the least.
        enhancing: probability that a tumour enhances, in high and in low grade.
        mass_effect: how far tissue at a core's surface moves away, relative to the core's radius.
        conspicuity: how far a tumour's signal lies from grey matter's, relative to a textbook's;
            drawn for each modality of a patient.
        enhancement: the same on T1ce, where contrast agent makes the core conspicuous.
        contrast: how far apart the signals of healthy tissues lie, relative to a textbook's.
        gamma: exponent of the scanner's response.
        texture: relative standard deviation of the signal within healthy tissue.
        bias: relative standard deviation of the coil's sensitivity.
        noise: standard deviation, relative to the signal of white matter on T1.
        blur: mm, standard deviation of the motion along one axis.
        ghost: signal of the ghost that motion leaves, relative to the image.
        lesions: least and most small lesions of white matter.
        vessels: least and most vessels that are bright on T1ce.
    """

    core_volume: Range = (0.1, 100.0)
    foci: tuple[int, int] = (1, 4)
    multifocal: float = 0.35
    enhancing: Range = (0.9, 0.4)
    mass_effect: Range = (0.1, 0.5)
    conspicuity: Range = (0.35, 0.8)
    enhancement: Range = (0.7, 1.2)
    contrast: Range = (0.7, 1.2)
    gamma: Range = (0.75, 1.35)
    texture: Range = (0.04, 0.1)
    bias: Range = (0.08, 0.2)
    noise: Range = (0.03, 0.07)
    blur: Range = (0.0, 2.5)
    ghost: Range = (0.0, 0.08)
    lesions: tuple[int, int] = (2, 16)
    vessels: tuple[int, int] = (4, 12)


# the hospital that training and test patients come from
FIRST_HOSPITAL = Cohort()
# another one, for fine-tuning: flatter contrast, more noise, older patients
SECOND_HOSPITAL = Cohort(
    conspicuity=(0.3, 0.65),
    enhancement=(0.6, 1.0),
    contrast=(0.5, 0.8),
    gamma=(0.6, 0.9),
    noise=(0.05, 0.1),
    lesions=(8, 24),
)
