"""Rigid and affine registration by mutual information, from coarse to fine, without chance.

SimpleITK does the work: Mattes' mutual information (Mattes et al., IEEE TMI 2003) of samples drawn
with a fixed seed, on one thread, so that equal images give equal transforms on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
import SimpleITK as sitk

LEVELS = (8.0, 4.0, 2.0)  # mm, from coarse to fine
BINS = 40
SAMPLES = 40_000  # for each evaluation of the metric
SEED = 1  # 0 would be the clock
ITERATIONS = 150
SHORTEST_STEP = 1e-4  # of a parameter
STARTS = 3  # so many starts are optimised on the coarsest level
START_ANGLES = (-0.35, 0.0, 0.35)  # radians around each axis, 20 degrees
CLIPPED = 99.9  # percentile; scanners leave single bright voxels
MARGIN = 60.0  # mm
SMALLEST_AXIS = 4  # voxels that a recursive filter needs
ZERO_ORDER = sitk.RecursiveGaussianImageFilter.ZeroOrder

Linear: TypeAlias = sitk.Euler3DTransform | sitk.AffineTransform


@dataclass(frozen=True)
class Registration:
    """How a moving image fits a fixed one.

    Attributes:
        transform: From points of the fixed image to points of the moving image, LPS, mm.
        information: Mattes' mutual information on the finest level, in nats; more is better.
    """

    transform: sitk.AffineTransform
    information: float


def register(fixed: sitk.Image, moving: sitk.Image, *, affine: bool = False) -> Registration:
    """Register two 3D images of one head, whatever their contrast.

    The search starts where the grids lie as the scanner says, where their centres meet, and where
    their centres of mass meet, each turned by 0 and 20 degrees to both sides of every axis.

    Args:
        fixed: float32, any grid.
        moving: float32, any grid.
        affine: With scaling and shear, 12 parameters in place of 6.
    """
    if affine:  # or it would shrink the overlap until it finds nothing wrong in it
        moving = _widened(moving)
    pyramid = {size: (at_spacing(fixed, size), at_spacing(moving, size)) for size in LEVELS}
    coarse, *finer = LEVELS
    starts = sorted(
        _starts(*pyramid[coarse]), key=lambda start: -mutual_information(*pyramid[coarse], start)
    )
    found = [_optimised(*pyramid[coarse], start, step=coarse / 2) for start in starts[:STARTS]]
    best: Linear = max(
        found, key=lambda transform: mutual_information(*pyramid[finer[0]], transform)
    )
    for size in finer[:-1] if affine else finer:
        best = _optimised(*pyramid[size], best, step=size / 2)
    if affine:
        best = as_affine(best)
        for size in finer:
            best = _optimised(*pyramid[size], best, step=size / 2)
    return Registration(as_affine(best), mutual_information(*pyramid[finer[-1]], best))


def mutual_information(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> float:
    """Mattes' mutual information in nats of two float32 images; 0 where they do not overlap."""
    method = _method(fixed)
    method.SetInitialTransform(sitk.Transform(transform))
    try:
        return -float(method.MetricEvaluate(fixed, moving))
    except RuntimeError:  # no sample of the fixed image lies in the moving one
        return 0.0


def at_spacing(image: sitk.Image, spacing: float) -> sitk.Image:
    """The image on an isotropic grid along its axes, smoothed before and clipped.

    Args:
        image: float32.
        spacing: mm.
    """
    lowest, highest = np.percentile(sitk.GetArrayViewFromImage(image), (0, CLIPPED)).tolist()
    smooth = sitk.Clamp(image, sitk.sitkFloat32, lowest, highest)
    for axis, size in enumerate(image.GetSpacing()):
        if size < spacing and image.GetSize()[axis] >= SMALLEST_AXIS:
            smooth = sitk.RecursiveGaussian(smooth, spacing / 2, False, ZERO_ORDER, axis)
    count = np.ceil(np.multiply(image.GetSize(), image.GetSpacing()) / spacing)
    axes = np.reshape(image.GetDirection(), (3, 3))
    origin = _middle(image) - axes @ ((count - 1) / 2 * spacing)
    return sitk.Resample(
        smooth,
        [int(n) for n in count],
        sitk.Transform(),
        sitk.sitkLinear,
        origin.tolist(),
        [spacing] * 3,
        image.GetDirection(),
        lowest,
    )


def as_affine(transform: Linear) -> sitk.AffineTransform:
    """The same map of points as a 3D affine transform."""
    same = sitk.AffineTransform(3)
    same.SetMatrix(transform.GetMatrix())
    same.SetCenter(transform.GetCenter())
    same.SetTranslation(transform.GetTranslation())
    return same


def after(first: sitk.AffineTransform, then: sitk.AffineTransform) -> sitk.AffineTransform:
    """One transform that does what `first` does, then `then`."""
    chain = as_matrix(then) @ as_matrix(first)
    both = sitk.AffineTransform(3)
    both.SetMatrix(chain[:3, :3].ravel().tolist())
    both.SetTranslation(chain[:3, 3].tolist())
    return both


def as_matrix(transform: sitk.AffineTransform) -> np.ndarray:
    """The transform of homogeneous points, `(4, 4)`."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    return matrix


def _starts(fixed: sitk.Image, moving: sitk.Image) -> Iterator[sitk.Euler3DTransform]:
    shifts = (
        np.zeros(3),
        _middle(moving) - _middle(fixed),
        _centre_of_mass(moving) - _centre_of_mass(fixed),
    )
    for shift, angles in product(shifts, product(START_ANGLES, repeat=3)):
        yield sitk.Euler3DTransform(_centre_of_mass(fixed).tolist(), *angles, shift.tolist())


def _optimised(fixed: sitk.Image, moving: sitk.Image, start: Linear, *, step: float) -> Linear:
    """The transform of the same kind to which gradient descent leads.

    Args:
        fixed: A level of the pyramid.
        moving: A level of the pyramid.
        start: Is not changed.
        step: The first step in mm.
    """
    method = _method(fixed)
    transform = type(start)(start)
    method.SetInitialTransform(transform, inPlace=True)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=step,
        minStep=SHORTEST_STEP,
        numberOfIterations=ITERATIONS,
        estimateLearningRate=method.EachIteration,  # or steps in mm would be steps of a matrix
        maximumStepSizeInPhysicalUnits=step,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    try:
        method.Execute(fixed, moving)
    except RuntimeError:  # the start leads out of the image; others do better
        return start
    return transform


def _widened(image: sitk.Image) -> sitk.Image:
    """The image with a margin of background."""
    margin = [round(MARGIN / size) for size in image.GetSpacing()]
    darkest = float(sitk.GetArrayViewFromImage(image).min())
    return sitk.ConstantPad(image, margin, margin, darkest)


def _method(fixed: sitk.Image) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfWorkUnits(1)  # the order in which threads add up is not fixed
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    share = min(1.0, SAMPLES / fixed.GetNumberOfPixels())
    method.SetMetricSamplingPercentage(share, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _middle(image: sitk.Image) -> np.ndarray:
    index = (np.array(image.GetSize()) - 1) / 2
    return np.array(image.TransformContinuousIndexToPhysicalPoint(index.tolist()))


def _centre_of_mass(image: sitk.Image) -> np.ndarray:
    weights = sitk.GetArrayViewFromImage(image).astype(np.float64)
    weights -= weights.min()
    if not weights.any():
        return _middle(image)
    axes = [weights.sum(axis=tuple({0, 1, 2} - {axis})) for axis in (2, 1, 0)]  # x, y, z
    index = [float(np.average(np.arange(len(axis)), weights=axis)) for axis in axes]
    return np.array(image.TransformContinuousIndexToPhysicalPoint(index))
