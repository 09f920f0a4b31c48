"""Tiny nnU-Net datasets, planned and preprocessed by nnU-Net itself, without worker processes.

Each is made once and copied from then on, since planning takes a second.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import nibabel as nib
import numpy as np
from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3}
PLAIN = {"background": 0, "edema": 1, "non-enhancing": 2, "enhancing": 3}
CASES = 5
NAME = "Dataset777_Tiny"
FOLDERS = (f"nnUNet_raw/{NAME}", f"nnUNet_preprocessed/{NAME}")

_store = tempfile.TemporaryDirectory(prefix="tiny_datasets_")
_stored: dict[str, Path] = {}  # what a dataset was made of → a copy of its folders


def make_dataset(
    folder: Path,
    *,
    labels: dict | None = None,
    channels: int = 4,
    shape: tuple[int, int, int] = (36, 40, 32),
    spacing: tuple[float, float, float] = (1, 1, 1),
    memory_gb: float = 8,
    planned_shape: tuple[int, int, int] | None = None,
) -> str:
    """Write, plan and preprocess a dataset of nested balls; returns its name.

    Args:
        folder: holds nnUNet_raw, nnUNet_preprocessed, nnUNet_results, which are set already.
        labels: of `dataset.json`; regions if not given.
        channels: images of a case.
        shape: voxels (H, W, D) of a case in nnU-Net's order.
        spacing: mm in nnU-Net's order.
        memory_gb: what nnU-Net plans for; small values make small patches.
        planned_shape: what nnU-Net's fingerprint says of the cases' shape, if not the truth.
    """
    labels = labels or REGIONS
    made_of = repr((labels, channels, shape, spacing, memory_gb, planned_shape))
    if made_of in _stored:
        _copy(_stored[made_of], folder)
        return NAME
    raw, preprocessed = (folder / place for place in FOLDERS)
    for sub in ("imagesTr", "labelsTr"):
        (raw / sub).mkdir(parents=True)
    for number in range(CASES):
        _write_case(raw, f"case_{number}", number, labels, channels, shape, spacing)
    description = {
        "channel_names": {str(i): f"MRI {i}" for i in range(channels)},
        "labels": labels,
        "numTraining": CASES,
        "file_ending": ".nii.gz",
    }
    if any(isinstance(value, list) for value in labels.values()):
        description["regions_class_order"] = [1, 2, 3]
    (raw / "dataset.json").write_text(json.dumps(description))
    preprocessed.mkdir(parents=True)
    _write_fingerprint(preprocessed, channels, planned_shape or shape, spacing)
    # planning takes this for a number of threads, training for one of worker processes
    with mock.patch.dict(os.environ, nnUNet_n_proc_DA="1"):
        plan_experiments([777], gpu_memory_target_in_gb=memory_gb)
    shutil.copy(raw / "dataset.json", preprocessed)
    shutil.copytree(raw / "labelsTr", preprocessed / "gt_segmentations")
    place = Path(_store.name, str(len(_stored)))
    _copy(folder, place)
    _stored[made_of] = place
    return NAME


def preprocess(folder: Path, name: str, configuration: str = "3d_fullres") -> None:
    """Preprocess all cases for one configuration, in this process."""
    raw, preprocessed = folder / "nnUNet_raw" / name, folder / "nnUNet_preprocessed" / name
    plans_manager = PlansManager(str(preprocessed / "nnUNetPlans.json"))
    configuration_manager = plans_manager.get_configuration(configuration)
    output = preprocessed / configuration_manager.data_identifier
    output.mkdir(exist_ok=True)
    dataset_json = json.loads((raw / "dataset.json").read_text())
    for case in sorted((raw / "labelsTr").glob("*.nii.gz")):
        case_id = case.name.removesuffix(".nii.gz")
        DefaultPreprocessor(verbose=False).run_case_save(
            str(output / case_id),
            [str(path) for path in sorted((raw / "imagesTr").glob(f"{case_id}_*"))],
            str(case),
            plans_manager,
            configuration_manager,
            dataset_json,
        )


def _copy(source: Path, target: Path) -> None:
    for place in FOLDERS:
        shutil.copytree(source / place, target / place)


def _write_case(raw, case_id, seed, labels, channels, shape, spacing):
    rng = np.random.default_rng(seed)
    centre = np.array(shape) / 2 + rng.uniform(-2, 2, 3)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    distance = np.linalg.norm((grid - centre) / np.array(shape), axis=-1)
    segmentation = np.digitize(-distance, (-0.35, -0.25, -0.15)).astype(np.uint8)
    # SimpleITK's axes run the other way than nibabel's
    affine = np.diag([*spacing[::-1], 1.0])
    for channel in range(channels):
        image = 100 + 20 * segmentation * (channel + 1) + rng.normal(0, 5, shape)
        path = raw / "imagesTr" / f"{case_id}_{channel:04d}.nii.gz"
        nib.save(nib.Nifti1Image(image.T.astype(np.float32), affine), path)
    if "ignore" in labels:
        segmentation[: shape[0] // 3] = labels["ignore"]
    nib.save(nib.Nifti1Image(segmentation.T, affine), raw / "labelsTr" / f"{case_id}.nii.gz")


def _write_fingerprint(preprocessed, channels, shape, spacing):
    statistics = {
        "max": 200,
        "mean": 120,
        "median": 120,
        "min": 50,
        "percentile_00_5": 60,
        "percentile_99_5": 190,
        "std": 20,
    }
    fingerprint = {
        "spacings": [list(spacing)] * CASES,
        "shapes_after_crop": [list(shape)] * CASES,
        "foreground_intensity_properties_per_channel": {
            str(i): statistics for i in range(channels)
        },
        "median_relative_size_after_cropping": 1.0,
    }
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
