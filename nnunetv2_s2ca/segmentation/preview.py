"""A picture of a segmentation: three planes through the tumour."""

from __future__ import annotations

import io

import numpy as np
import SimpleITK as sitk
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nnunetv2_s2ca.imaging.orientation import turn
from nnunetv2_s2ca.imaging.scans import Scan
from nnunetv2_s2ca.reporting.slices import COLOURS, DOTS_PER_INCH, OPACITY

SHOWN = "LPS"  # so that the patient's right is on the left
FURTHER = ("#30c060", "#c060c0", "#e08030", "#60c0c0")  # for labels from 4 on
PANEL = 3.5  # inches


@style.context("default")  # whatever theme the caller, or nnU-Net's plots, have set
def draw_planes(scan: Scan, labels: np.ndarray, *, title: str) -> bytes:
    """Axial, coronal and sagittal plane through most of the tumour; a PNG file.

    Args:
        scan: Its image is the background.
        labels: nnU-Net's labels on the scan's grid, `(Z, Y, X)`.
        title: Above the planes.
    """
    image = sitk.GetImageFromArray(labels.astype(np.uint16))
    image.CopyInformation(scan.image)
    turned, _ = turn(scan.image, SHOWN)
    voxels = sitk.GetArrayFromImage(turned)
    marked = sitk.GetArrayFromImage(turn(image, SHOWN)[0])
    across, along, up = turned.GetSpacing()
    height = np.percentile(voxels[voxels > 0], 99.5) if (voxels > 0).any() else 1.0
    colours = ListedColormap([*COLOURS.values(), *FURTHER])
    figure = Figure(figsize=(3 * PANEL, PANEL + 0.8), layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)  # draws without a screen
    ratios = (along / across, up / across, up / along)
    for axis, (panel, name, aspect) in enumerate(
        zip(figure.subplots(1, 3), ("axial", "coronal", "sagittal"), ratios, strict=True)
    ):
        level = _fullest(marked, axis)
        plane, overlay = (np.take(volume, level, axis) for volume in (voxels, marked))
        if axis:  # the top of the head is up
            plane, overlay = plane[::-1], overlay[::-1]
        panel.imshow(plane, cmap="gray", vmin=0, vmax=height, aspect=aspect)
        panel.imshow(
            np.ma.masked_equal(overlay, 0),
            cmap=colours,
            vmin=1,
            vmax=colours.N,
            alpha=OPACITY,
            interpolation="nearest",
            aspect=aspect,
        )
        panel.set(xticks=[], yticks=[], facecolor="black", title=name)
    handles = [Patch(color=colour, label=name) for name, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle(title, fontsize="medium")
    figure.set_dpi(DOTS_PER_INCH)
    file = io.BytesIO()
    canvas.print_png(file)
    return file.getvalue()


def _fullest(labels: np.ndarray, axis: int) -> int:
    """The plane with most tumour; the middle one without any."""
    others = tuple(other for other in range(3) if other != axis)
    areas = np.count_nonzero(labels, axis=others)
    return int(areas.argmax()) if areas.any() else labels.shape[axis] // 2
