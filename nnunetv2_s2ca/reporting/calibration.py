"""Calibration of saved probabilities: how often is right what the network is p sure of?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunetv2_s2ca.brats.regions import LabelScheme
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.evaluation.boxes import bounding_box, grown
from nnunetv2_s2ca.evaluation.segmentations import geometry_difference, read_labels
from nnunetv2_s2ca.reporting.case_files import CaseFiles
from nnunetv2_s2ca.reporting.plots import Figure
from nnunetv2_s2ca.reporting.svg import Plot, legend, numeric_axis

BINS = 10
MOST_CASES = 20  # whose probabilities are read, since a case takes seconds and 100 MB
MARGIN_MM = 10.0
ALIKE = 0.99  # share of voxels at which probabilities and segmentation must agree


@dataclass(frozen=True)
class Bins:
    """Voxels by their probability, for each region.

    Attributes:
        count: `(regions, BINS)` voxels.
        probability: `(regions, BINS)` sum of their probabilities.
        hits: `(regions, BINS)` of them that are in the true region.
    """

    count: NDArray
    probability: NDArray
    hits: NDArray

    def __add__(self, other: Bins) -> Bins:
        return Bins(
            self.count + other.count,
            self.probability + other.probability,
            self.hits + other.hits,
        )

    def error(self, region: int) -> float:
        """Expected calibration error: mean gap of probability and frequency over voxels."""
        total = self.count[region].sum()
        return (
            float(np.abs(self.probability[region] - self.hits[region]).sum() / total)
            if total
            else math.nan
        )


def bins_of_case(files: CaseFiles, *, scheme: LabelScheme) -> Bins:
    """The bins of one case, of the voxels within 10 mm of the box around truth and prediction.

    Raises:
        UserError: A file is missing or damaged, or the probabilities are not of this prediction.
    """
    if not (files.probabilities and files.truth and files.prediction):
        raise UserError(f"{files.case} lacks the truth, the prediction or probabilities")
    truth, truth_image = read_labels(files.truth)
    prediction, image = read_labels(files.prediction)
    difference = geometry_difference(truth_image, image)
    if difference is not None:
        raise UserError(f"{files.prediction} has {difference}")
    smallest = min(float(size) for size in image.header.get_zooms()[:3])
    box = bounding_box((truth != 0) | (prediction != 0))
    box = grown(box, math.ceil(MARGIN_MM / smallest), truth.shape)
    truth, prediction = truth[box], prediction[box]
    found = []
    for region, probability in zip(scheme.regions, _probabilities(files, scheme, box), strict=True):
        if (((probability > 0.5) == region.mask(prediction)).mean()) < ALIKE:
            raise UserError(f"{files.probabilities} does not fit {files.prediction}")
        place = np.minimum((probability * BINS).astype(np.int64), BINS - 1).ravel()
        found.append(
            [
                np.bincount(place, weights=weights, minlength=BINS)
                for weights in (None, probability.ravel(), region.mask(truth).ravel())
            ]
        )
    count, probability, hits = (np.array(part, dtype=float) for part in zip(*found, strict=True))
    return Bins(count, probability, hits)


def calibration_figure(bins: Bins, regions: Sequence[str], cases: int) -> Figure:
    """The reliability diagram."""
    axes = [
        numeric_axis(label, [], within=(0.0, 1.0))
        for label in ("predicted probability", "share of voxels in the true region")
    ]
    spoken = [f"{region} {bins.error(number):.4f}" for number, region in enumerate(regions)]
    plot = Plot(
        axes[0],
        axes[1],
        f"Calibration over {cases} cases. Expected calibration error: {'; '.join(spoken)}.",
        height=400,
    )
    plot.line([(0.0, 0.0), (1.0, 1.0)], 0, kind="rule")
    for series, region in enumerate(regions):
        inside = bins.count[series] > 0
        x = (bins.probability[series][inside] / bins.count[series][inside]).tolist()
        y = (bins.hits[series][inside] / bins.count[series][inside]).tolist()
        plot.line(list(zip(x, y, strict=True)), series)
        for across, up, count in zip(x, y, bins.count[series][inside], strict=True):
            data = {"region": region, "probability": across, "frequency": up, "voxels": int(count)}
            title = f"{region}: {across:.3f} predicted, {up:.3f} true, {int(count)} voxels"
            plot.dot(across, up, series, title=title, data=data)
    return Figure(
        "Calibration",
        plot.svg(),
        "On the line, of all voxels predicted with 80 % really 80 % are in the region; below it "
        "the network is too sure, above it too careful. Expected calibration error: "
        f"{', '.join(spoken)}; voxels within {MARGIN_MM:g} mm of the box around the tumour, "
        f"{cases} cases.",
        legend(regions),
    )


def _probabilities(files: CaseFiles, scheme: LabelScheme, box: tuple[slice, ...]) -> list[NDArray]:
    """The probability of each region in a box, in the axis order of the segmentation."""
    try:
        with np.load(files.probabilities, allow_pickle=False) as content:  # type: ignore[arg-type]
            stored = content["probabilities"]
    except Exception as error:  # numpy and zipfile raise many kinds for damaged files
        raise UserError(f"{files.probabilities} cannot be read: {error}") from error
    inside = (slice(None), *box)
    volumes = stored.transpose(0, 3, 2, 1)[inside].astype(np.float32)  # nnU-Net's axes are Z, Y, X
    if volumes.shape[1:] != tuple(part.stop - part.start for part in box):
        raise UserError(f"{files.probabilities} has another shape than {files.prediction}")
    if len(volumes) == len(scheme.regions):  # regions, each by its own sigmoid
        return list(volumes)
    if len(volumes) > max(label for region in scheme.regions for label in region.labels):
        return [volumes[list(region.labels)].sum(axis=0) for region in scheme.regions]
    raise UserError(
        f"{files.probabilities} has {len(volumes)} channels for {len(scheme.regions)} regions"
    )
