"""Pictures of a case: slices in three planes with truth and prediction as outlines."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from PIL import Image

from nnunetv2_s2ca.brats.regions import LabelScheme, Region
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.evaluation.boxes import bounding_box, grown, hull
from nnunetv2_s2ca.reporting.case_files import CaseFiles
from nnunetv2_s2ca.reporting.volumes import (
    PLANES,
    Volume,
    plane,
    plane_spacing,
    read_image,
    read_segmentation,
    tumour_slices,
)

SHOWN = ("FLAIR", "T1ce", "T2", "T1")  # in the order of preference; two are drawn
MARGIN = 2  # voxels around the brain
SHORTEST = 160  # pixels of a picture's shorter side, to which coarse images are enlarged
QUALITY = 80
BRIGHTEST = 99.5  # percentile of the intensities within the brain that becomes white


@dataclass(frozen=True)
class Slice:
    """A slice through a case.

    Attributes:
        plane: "axial", "coronal" or "sagittal".
        number: of the slice, from 1 on, counted from the patient's left, back or bottom.
        count: number of slices in this plane.
        width: in mm.
        height: in mm.
        images: sequence → JPEG as a data URI.
        outlines: (truth or prediction, number of the region, its name, SVG path in mm).
    """

    plane: str
    number: int
    count: int
    width: float
    height: float
    images: Mapping[str, str]
    outlines: Sequence[tuple[str, int, str, str]]


@dataclass(frozen=True)
class CasePictures:
    """The pictures of a case.

    Attributes:
        case: case identifier.
        slices: one in each plane.
        problems: what could not be drawn, a sentence each.
    """

    case: str
    slices: Sequence[Slice]
    problems: Sequence[str]


def draw_case(files: CaseFiles, *, scheme: LabelScheme | None) -> CasePictures:
    """Draw a case; what is missing or damaged is left out and named."""
    problems: list[str] = []
    masks: dict[str, Volume] = {}
    for what, file in (("truth", files.truth), ("prediction", files.prediction)):
        if file is None:
            problems.append(f"The {what} is missing.")
            continue
        try:
            masks[what] = read_segmentation(file)
        except UserError as error:
            problems.append(f"The {what} is not drawn: {error}.")
    if not masks:
        return CasePictures(files.case, [], problems)
    first = next(iter(masks.values()))
    if len(masks) == 2 and masks["truth"].voxels.shape != masks["prediction"].voxels.shape:
        problems.append("The prediction is not drawn: its grid is not that of the truth.")
        del masks["prediction"]
    tumour = np.logical_or.reduce([volume.voxels != 0 for volume in masks.values()])
    levels = dict(tumour_slices(tumour))
    boxes = [bounding_box(tumour)]
    images: dict[str, dict[str, NDArray]] = {}
    for sequence in [name for name in SHOWN if name in files.images] or list(files.images):
        if len(images) == 2:
            break
        try:
            volume = read_image(files.images[sequence], first)
        except UserError as error:
            problems.append(f"{sequence} is not drawn: {error}.")
            continue
        brain = volume.voxels != 0
        boxes.append(bounding_box(brain))
        low, high = _window(volume.voxels[brain])
        images[sequence] = {
            name: _grey(plane(volume.voxels, name, index), low, high)
            for name, index in levels.items()
        }
    box = grown(hull(boxes), MARGIN, tumour.shape)
    regions = scheme.regions if scheme is not None else _single_labels(masks)
    slices = []
    for name, index in levels.items():
        window = plane_window(name, box, tumour.shape)
        cuts = {what: plane(mask.voxels, name, index)[window] for what, mask in masks.items()}
        height, width = plane_spacing(first.spacing, name)
        rows, columns = (part.stop - part.start for part in window)
        slices.append(
            Slice(
                plane=name,
                number=index + 1,
                count=tumour.shape[PLANES[name]],
                width=round(columns * width, 1),
                height=round(rows * height, 1),
                images={
                    sequence: _jpeg(planes[name][window], (columns * width, rows * height))
                    for sequence, planes in images.items()
                },
                outlines=[
                    (what, number, region.name, path)
                    for what in masks
                    for number, region in enumerate(regions)
                    if (path := outline(region.mask(cuts[what]), (height, width)))
                ],
            )
        )
    return CasePictures(files.case, slices, problems)


def plane_window(name: str, box: Sequence[slice], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The part of a slice, as `plane` returns it, that lies in a box of the volume."""
    across, up = (axis for axis in range(3) if axis != PLANES[name])
    return tuple(  # type: ignore[return-value]
        slice(shape[axis] - box[axis].stop, shape[axis] - box[axis].start) for axis in (up, across)
    )


def outline(mask: NDArray[np.bool_], spacing: tuple[float, float]) -> str:
    """The edge of a mask as an SVG path in mm; empty if the mask is.

    Args:
        mask: `(rows, columns)`.
        spacing: height and width of a pixel in mm.
    """
    if not mask.any():
        return ""
    height, width = spacing
    padded = np.pad(mask.astype(np.float32), 1)
    path = []
    for line in contour_generator(z=padded).lines(0.5):
        points = _without_straight(np.asarray(line))
        x, y = (points[:, 0] - 0.5) * width, (points[:, 1] - 0.5) * height
        path.append("M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True)) + "Z")
    return "".join(path)


def _without_straight(points: NDArray) -> NDArray:
    """The points of a closed line at which it turns."""
    points = points[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-6
    return points[turns] if turns.any() else points


def _window(intensities: NDArray) -> tuple[float, float]:
    """The intensities that become black and white."""
    sample = intensities[:: max(len(intensities) // 200_000, 1)]
    sample = sample[np.isfinite(sample)]
    if not len(sample):
        return 0.0, 1.0
    low, high = np.percentile(sample, (100 - BRIGHTEST, BRIGHTEST))
    return float(low), float(max(high, low + 1e-12))


def _grey(pixels: NDArray, low: float, high: float) -> NDArray[np.uint8]:
    """Intensities of a slice as grey values; black outside the brain."""
    scaled = np.clip((np.nan_to_num(pixels.astype(np.float64)) - low) / (high - low) * 255, 0, 255)
    return np.where(pixels != 0, scaled, 0).astype(np.uint8)


def _jpeg(pixels: NDArray[np.uint8], size: tuple[float, float]) -> str:
    """A data URI of a grey picture whose sides have the ratio of `size`, width and height in mm."""
    factor = max(max(pixels.shape) / max(size), SHORTEST / min(size))
    across, down = (max(round(side * factor), 1) for side in size)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if picture.size != (across, down):
        picture = picture.resize((across, down), Image.Resampling.BICUBIC)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def _single_labels(masks: Mapping[str, Volume]) -> list[Region]:
    """A region for each label, where nothing says which regions there are."""
    labels = sorted({int(n) for volume in masks.values() for n in np.unique(volume.voxels)} - {0})
    return [Region(f"label {label}", (label,)) for label in labels[:8]]
