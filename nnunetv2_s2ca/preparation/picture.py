"""The quality picture: edges of each sequence over the image that it was registered to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

PLANES = ("axial", "coronal", "sagittal")
EDGES = 93  # percentile of the gradient that counts as an edge
SMOOTHING = 1.0  # voxels
COLOUR = (1.0, 0.35, 0.1)
PANEL = 2.6  # inches
DOTS_PER_INCH = 100


@style.context("default")  # whatever theme the caller, or nnU-Net's plots, have set
def draw_quality(pairs: Mapping[str, tuple[NDArray, NDArray]], output: Path) -> None:
    """Draw a row of three planes per registration.

    Args:
        pairs: Title of a row → the image below, and the image whose edges are drawn over it, both
            `(Z, Y, X)`, axes to the left, back and top, 0 outside the brain.
        output: PNG file to write.
    """
    figure = Figure(figsize=(PANEL * 3, (PANEL + 0.3) * len(pairs)), layout="constrained")
    canvas = FigureCanvasAgg(figure)  # draws without a screen
    axes = figure.subplots(len(pairs), 3, squeeze=False)
    for row, (title, (below, above)) in zip(axes, pairs.items(), strict=True):
        window = _window(below, above)
        for axis, plane, image, edge in zip(
            row, PLANES, _planes(below[window]), _planes(above[window]), strict=True
        ):
            brightest = np.percentile(image[image > 0], 99) if (image > 0).any() else 1
            axis.imshow(image, cmap="gray", vmin=0, vmax=brightest)
            overlay = np.zeros((*edge.shape, 4))
            overlay[..., :3] = COLOUR
            overlay[..., 3] = _edges(edge)
            axis.imshow(overlay)
            axis.set(xticks=[], yticks=[])
            axis.set_xlabel(plane, fontsize="small")
        row[1].set_title(title, fontsize="medium")
    figure.set_dpi(DOTS_PER_INCH)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture.save(output, optimize=True)


def _edges(plane: NDArray) -> NDArray[np.bool_]:
    gradient = ndimage.gaussian_gradient_magnitude(plane.astype(np.float32), SMOOTHING)
    seen = gradient[gradient > 0]
    return gradient > np.percentile(seen, EDGES) if seen.size else np.zeros(plane.shape, bool)


def _window(*volumes: NDArray) -> tuple[slice, ...]:
    """The box around what any of the volumes shows."""
    box = ndimage.find_objects((sum(np.abs(volume) for volume in volumes) > 0).astype(np.uint8))
    return box[0] if box else (slice(None),) * 3


def _planes(volume: NDArray) -> tuple[NDArray, ...]:
    """The three planes through the middle, the nose or the top of the head upwards."""
    z, y, x = (size // 2 for size in volume.shape)
    return volume[z], volume[::-1, y], volume[::-1, :, x]
