"""Draw axial slices: images and segmentations side by side, one row per patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

# nnU-Net's labels 1, 2, 3 in the colours of the BraTS papers
COLOURS = {"oedema": "#f5d000", "necrosis, non-enhancing": "#e02020", "enhancing": "#2070ff"}
OPACITY = 0.6
MARGIN = 1  # voxels around the brain
PANEL = 2.0  # inches
DOTS_PER_INCH = 100
PALETTE = 96  # colours of the file, few to keep it small


@dataclass(frozen=True)
class PatientSlices:
    """A row of the picture; all volumes are (X, Y, Z), as BraTS orients them.

    Attributes:
        name: label of the row.
        images: by column heading; 0 outside the brain.
        segmentations: by column heading, the truth first, in nnU-Net's labels 0 background,
            1 oedema, 2 necrosis or non-enhancing, 3 enhancing. Drawn over the first image.
        captions: text below a column, by column heading.
    """

    name: str
    images: Mapping[str, NDArray]
    segmentations: Mapping[str, NDArray]
    captions: Mapping[str, str] = field(default_factory=dict)


@style.context("default")  # whatever theme the caller, or nnU-Net's plots, have set
def draw_slices(patients: Sequence[PatientSlices], output: Path) -> None:
    """Draw the slice of each patient that shows the tumour best, cropped to the brain.

    Args:
        patients: the rows, all with the same columns.
        output: PNG file to write.
    """
    headings = [*patients[0].images, *patients[0].segmentations]
    figure = Figure(
        figsize=(PANEL * len(headings) + 0.3, (PANEL + 0.25) * len(patients) + 0.6),
        layout="constrained",
    )
    canvas = FigureCanvasAgg(figure)  # draws without a screen
    axes = figure.subplots(len(patients), len(headings), squeeze=False)
    for row, patient in zip(axes, patients, strict=True):
        _draw_patient(row, patient)
    for axis, heading in zip(axes[0], headings, strict=True):
        axis.set_title(heading)
    handles = [Patch(color=colour, label=name) for name, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.set_dpi(DOTS_PER_INCH)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture.quantize(PALETTE, dither=Image.Dither.NONE).save(output, optimize=True)


def best_level(truth: NDArray) -> int:
    """The axial slice with the largest label areas, each relative to the label's largest slice.

    Args:
        truth: (X, Y, Z) labels.
    """
    areas = [(truth == label).sum((0, 1)) for label in np.unique(truth[truth > 0])]
    shares = [area / area.max() for area in areas]
    return int(np.argmax(sum(shares))) if shares else truth.shape[2] // 2


def _draw_patient(row: Sequence[Axes], patient: PatientSlices) -> None:
    first = next(iter(patient.images.values()))
    level = best_level(next(iter(patient.segmentations.values())))
    window = _window(first[..., level] != 0)
    shown = {name: image[..., level][window] for name, image in patient.images.items()}
    background = first[..., level][window]
    colours = ListedColormap(list(COLOURS.values()))
    for axis, (heading, volume) in zip(
        row, [*shown.items(), *patient.segmentations.items()], strict=True
    ):
        image = shown.get(heading, background)
        brightest = np.percentile(image[image != 0], 99.5) if image.any() else 1
        axis.imshow(_upright(image), cmap="gray", vmin=0, vmax=brightest, interpolation="bicubic")
        if heading in patient.segmentations:
            labels = _upright(volume[..., level][window])
            axis.imshow(
                np.ma.masked_equal(labels, 0),
                cmap=colours,
                vmin=1,
                vmax=3,
                alpha=OPACITY,
                interpolation="nearest",
            )
        axis.set(xticks=[], yticks=[], facecolor="black", adjustable="datalim", box_aspect=1)
        axis.set_xlabel(patient.captions.get(heading, ""), fontsize="small")
    row[0].set_ylabel(patient.name, fontsize="small")


def _window(brain: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The part of an axial plane (X, Y) that holds the brain."""
    ends = []
    for axis in (0, 1):
        inside = np.flatnonzero(brain.any(axis=1 - axis))
        ends.append(slice(max(inside[0] - MARGIN, 0), inside[-1] + 1 + MARGIN))
    return ends[0], ends[1]


def _upright(plane: NDArray) -> NDArray:
    """Rows from front to back, columns from the patient's right to left: radiological view."""
    return plane.T
