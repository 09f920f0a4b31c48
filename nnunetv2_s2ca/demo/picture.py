"""A picture of the demo's predictions beside the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from nnunetv2_s2ca.demo.scores import read_volume, score_case, truth_of

COLOURS = {"oedema": "#f0c808", "necrosis, non-enhancing": "#d62839", "enhancing": "#1b98e0"}
# labels of nnU-Net, to which the truth's are brought here
BRATS_TO_NNUNET = np.array([0, 2, 1, 0, 3])


def draw_slices(predictions: Path, brats: Path, output: Path, *, title: str) -> None:
    """Draw a row of slices for each predicted case: FLAIR, T1ce, truth, prediction.

    Args:
        predictions: holds `<case>.nii.gz` in nnU-Net's labels.
        brats: the BraTS 2019 folder that holds the cases with their truth.
        output: PNG file to write.
        title: over all.
    """
    paths = sorted(predictions.glob("*.nii.gz"))
    figure = Figure(figsize=(10, 2.9 * len(paths) + 0.9), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a screen
    axes = figure.subplots(len(paths), 4, squeeze=False)
    for row, path in zip(axes, paths, strict=True):
        _draw_case(row, path, truth_of(path, brats))
    for axis, name in zip(axes[0], ("FLAIR", "T1ce", "truth", "prediction"), strict=True):
        axis.set_title(name)
    handles = [Patch(color=colour, label=name) for name, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle(title)
    figure.savefig(output, dpi=110)


def _draw_case(row: np.ndarray, path: Path, truth_path: Path) -> None:
    prediction, true = read_volume(path), read_volume(truth_path)
    case = path.name.removesuffix(".nii.gz")
    flair, t1ce = (
        read_volume(truth_path.with_name(f"{case}_{modality}.nii.gz"))
        for modality in ("flair", "t1ce")
    )
    scores = score_case(prediction, true)
    level = int(np.argmax((true > 0).sum((0, 1))))
    for axis, image in zip(row, (flair, t1ce, flair, flair), strict=True):
        axis.imshow(_upright(image[..., level]), cmap="gray")
        axis.set(xticks=[], yticks=[])
    colours = ListedColormap(list(COLOURS.values()))
    for axis, labels in ((row[2], BRATS_TO_NNUNET[true]), (row[3], prediction)):
        shown = np.ma.masked_equal(_upright(labels[..., level]), 0)
        axis.imshow(shown, cmap=colours, vmin=1, vmax=3, alpha=0.7, interpolation="nearest")
    row[0].set_ylabel(case)
    row[3].set_xlabel("Dice " + "  ".join(f"{name} {dice:.2f}" for name, dice in scores.items()))


def _upright(plane: NDArray) -> NDArray:
    """Rows from front to back, columns from the patient's right to left, as radiologists look."""
    return plane.T
