"""What a segmentation holds: volumes, lesions, and how it was made."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import cc3d
import numpy as np
import SimpleITK as sitk

from nnunetv2_s2ca.segmentation.inputs import NetworkInput
from nnunetv2_s2ca.segmentation.model import LoadedModel
from nnunetv2_s2ca.segmentation.run import Prediction

PACKAGES = ("nnunetv2-s2ca", "nnunetv2", "torch", "numpy", "SimpleITK")


def measure(prediction: Prediction, model: LoadedModel, voxel_ml: float) -> dict[str, Any]:
    """Volumes in ml and numbers of lesions.

    A lesion is a 26-connected component, of any size.

    Args:
        prediction: With the model's labels.
        model: Names the regions.
        voxel_ml: Volume of a voxel.
    """
    masks = {region.name: region.mask(prediction.labels) for region in model.regions}
    return {
        "volumes_ml": {
            name: round(np.count_nonzero(mask) * voxel_ml, 6) for name, mask in masks.items()
        },
        "lesions": {name: _components(mask) for name, mask in masks.items()},
    }


def labels_ml(labels: np.ndarray, voxel_ml: float) -> dict[str, float]:
    """Volume in ml of each label but 0 that occurs."""
    present, counts = np.unique(labels[labels != 0], return_counts=True)
    return {
        str(label): round(int(count) * voxel_ml, 6)
        for label, count in zip(present, counts, strict=True)
    }


def voxel_ml(image: sitk.Image) -> float:
    """Volume in ml of a voxel."""
    return float(np.prod(image.GetSpacing())) / 1000


def origin(given: NetworkInput, model: LoadedModel) -> dict[str, Any]:
    """What the result was made from, and by what."""
    predictor = model.predictor
    return {
        "model": {
            "file": str(model.name),
            "sha256": model.sha256,
            "trainer": predictor.trainer_name,
            "folds": list(model.folds),
            "sequences": list(model.sequences),
            "orientation": model.orientation,
            "orientation_known_from": model.orientation_source,
        },
        "space": given.space,
        "mirroring": bool(predictor.use_mirroring and predictor.allowed_mirroring_axes),
        "step_size": predictor.tile_step_size,
        "device": predictor.device.type,
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
    }


def _components(mask: np.ndarray) -> int:
    mask = np.ascontiguousarray(mask)
    return int(cc3d.connected_components(mask, connectivity=26).max(initial=0))
