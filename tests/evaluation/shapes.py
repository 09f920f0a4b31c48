"""Synthetic masks and the real cases, for the tests of metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

REAL_CASES = sorted(
    (Path(__file__).parents[2] / "../shared/real_cases").resolve().glob("*/*/*/*_seg.nii.gz")
)
# regions as nnU-Net declares them in dataset.json
DATASET = {
    "labels": {
        "background": 0,
        "whole tumor": [1, 2, 3],
        "tumor core": [2, 3],
        "enhancing tumor": [3],
    }
}
BRATS2019 = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}


def blobs(seed: int, *, shape=(40, 36, 30), share: float = 0.05) -> np.ndarray:
    """Smooth random blobs that fill a share of the volume and reach its border."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return noise > np.quantile(noise, 1 - share)


def ball(shape, centre, radius) -> np.ndarray:
    grid = np.indices(shape)
    return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2


def write_labels(labels: np.ndarray, path: Path, *, spacing=(1.0, 1.0, 1.0), origin=(0, 0, 0)):
    image = sitk.GetImageFromArray(labels.T)
    image.SetSpacing(spacing)
    image.SetOrigin(tuple(map(float, origin)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def real_pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    """Each real case against itself shifted, eroded in one label, and with specks added."""
    pairs = []
    for path in REAL_CASES:
        reference = np.ascontiguousarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T)
        prediction = np.roll(reference, (2, -1, 1), (0, 1, 2))
        prediction[100:103, 60:62, 70:72] = 4
        prediction[prediction == 2][::7] = 1
        pairs.append((reference, prediction))
    return pairs
