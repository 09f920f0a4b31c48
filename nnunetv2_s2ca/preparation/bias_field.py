"""The scanner's bias field by N4, for registrations alone: the images keep their intensities."""

from __future__ import annotations

import SimpleITK as sitk

from nnunetv2_s2ca.preparation.registration import at_spacing

SPACING = 4.0  # mm; the field is smooth
ITERATIONS = (40, 30, 20)


def without_bias_field(image: sitk.Image) -> sitk.Image:
    """The image divided by its bias field (Tustison et al., IEEE TMI 2010).

    Args:
        image: float32; N4 takes values below 0 as 0.
    """
    small = sitk.Maximum(at_spacing(image, SPACING), 0.0)
    method = sitk.N4BiasFieldCorrectionImageFilter()
    method.SetNumberOfWorkUnits(1)  # for equal results on every machine
    method.SetMaximumNumberOfIterations(ITERATIONS)
    method.Execute(small, sitk.OtsuThreshold(small, 0, 1, 200))
    field = sitk.Exp(method.GetLogBiasFieldAsImage(image))
    return sitk.Cast(image / sitk.Cast(field, image.GetPixelID()), sitk.sitkFloat32)
