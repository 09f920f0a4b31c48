"""Write an nnU-Net model folder for imported weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from torch import Tensor

from nnunetv2_s2ca.architecture.s2ca_net import S2CANet
from nnunetv2_s2ca.checkpoints.network import STRIDES, Architecture
from nnunetv2_s2ca.preprocessing.whole_volume import EXTENT_KEY, S2CAPreprocessorWholeVolume
from nnunetv2_s2ca.training.network_from_plans import PLANS_KEY
from nnunetv2_s2ca.training.trainer import nnUNetTrainerS2CA

TRAINER = nnUNetTrainerS2CA.__name__
CONFIGURATION = "3d_fullres"
# not nnU-Net's name, so that both can exist for one dataset
PLANS_NAME = "S2CAImportedPlans"

# BraTS as the authors padded it: voxels of 1 mm on x, y, z
EXTENT = (240, 240, 160)
CHANNEL_NAMES = {0: "T1", 1: "T1ce", 2: "T2", 3: "FLAIR"}
# nnU-Net's names and labels for BraTS, as in its converters
LABELS = {
    "background": 0,
    "whole tumor": (1, 2, 3),
    "tumor core": (2, 3),
    "enhancing tumor": (3,),
}
REGIONS_CLASS_ORDER = (1, 2, 3)
IMPORTER = "s2ca import-checkpoint"
REFERENCE = "Zhou et al., IEEE TMI 2024, doi 10.1109/TMI.2024.3368531"


def write_model_files(
    folder: Path, architecture: Architecture, *, dataset: str, source: str
) -> None:
    """Write the model's files outside the folds.

    Args:
        folder: The model's existing folder.
        architecture: The network's architecture, as in the authors' file.
        dataset: Full name of the dataset.
        source: Origin of the weights, for the description.
    """
    generate_dataset_json(
        str(folder),
        channel_names=CHANNEL_NAMES,
        labels=LABELS,
        num_training_cases=0,
        file_ending=".nii.gz",
        regions_class_order=REGIONS_CLASS_ORDER,
        dataset_name=dataset,
        reference=REFERENCE,
        description=f"weights of S2CA-Net's authors, imported from {source}",
        license="that of the weights' authors",
        converted_by=IMPORTER,
    )
    _write_json(folder / "plans.json", make_plans(architecture, dataset=dataset))
    # nnU-Net's export requires one
    fingerprint = {"spacings": [[1.0] * 3], "shapes_after_crop": [EXTENT]}
    _write_json(folder / "dataset_fingerprint.json", fingerprint)


def write_fold(
    model_folder: Path,
    fold: int,
    *,
    weights: Mapping[str, Tensor],
    architecture: Architecture,
) -> None:
    """Write one fold of a model whose plans and dataset.json are there.

    Args:
        model_folder: The model's folder.
        fold: Number of the fold.
        weights: State dict of the network.
        architecture: The network's architecture, as in the authors' file.

    Raises:
        OSError: The disk is full.
    """
    folder = model_folder / f"fold_{fold}"
    (folder / "validation").mkdir(parents=True)
    # nnU-Net's export requires these
    summary: dict[str, Any] = {"foreground_mean": {}, "mean": {}, "metric_per_case": []}
    _write_json(folder / "validation" / "summary.json", summary)
    _draw_progress(folder / "progress.png", "Imported weights.\nNot trained here.")
    init_args = {
        "plans": json.loads((model_folder / "plans.json").read_text()),
        "configuration": CONFIGURATION,
        "fold": fold,
        "dataset_json": json.loads((model_folder / "dataset.json").read_text()),
        "device": torch.device("cpu"),
    }
    checkpoint = _make_checkpoint(weights, architecture, init_args)
    try:
        torch.save(checkpoint, folder / "checkpoint_final.pth")
    except RuntimeError as error:  # PyTorch says no more about a full disk
        raise OSError("PyTorch could not save the weights; is the disk full?") from error


def make_plans(architecture: Architecture, *, dataset: str) -> dict[str, Any]:
    """Plans with which nnU-Net preprocesses as the authors' program does."""
    patch_size = architecture.patch_size
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": f"{PLANS_NAME}_{CONFIGURATION}",
        "preprocessor_name": S2CAPreprocessorWholeVolume.__name__,
        EXTENT_KEY: EXTENT,
        "batch_size": 2,
        "patch_size": patch_size,
        "median_image_size_in_voxels": EXTENT,
        "spacing": [1.0] * 3,
        "normalization_schemes": ["NoNormalization"] * len(CHANNEL_NAMES),
        "use_mask_for_norm": [False] * len(CHANNEL_NAMES),
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": {
            "network_class_name": f"{S2CANet.__module__}.{S2CANet.__name__}",
            "arch_kwargs": {"n_stages": len(STRIDES), "strides": STRIDES},
            "_kw_requires_import": [],
        },
        "batch_dice": False,
        PLANS_KEY: architecture.network_arguments(),
    }
    return {
        "dataset_name": dataset,
        "plans_name": PLANS_NAME,
        "original_median_spacing_after_transp": [1.0] * 3,
        "original_median_shape_after_transp": EXTENT,
        "image_reader_writer": "SimpleITKIO",
        # nnU-Net reads z, y, x; the authors' network expects x, y, z
        "transpose_forward": [2, 1, 0],
        "transpose_backward": [2, 1, 0],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(c): {} for c in CHANNEL_NAMES},
    }


def _make_checkpoint(
    weights: Mapping[str, Tensor], architecture: Architecture, init_args: dict[str, Any]
) -> dict[str, Any]:
    """The checkpoint that the trainer would save before its first iteration."""
    # `nnUNetv2_train --val` loads it
    optimizer = torch.optim.Adam(architecture.build().parameters(), 1e-3, weight_decay=1e-5)
    return {
        "network_weights": dict(weights),
        "optimizer_state": optimizer.state_dict(),
        "grad_scaler_state": None,
        "logging": LocalLogger().get_checkpoint(),
        "_best_ema": None,
        "current_epoch": 0,
        "init_args": init_args,
        "trainer_name": TRAINER,
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }


def _draw_progress(path: Path, text: str) -> None:
    figure = Figure(figsize=(6, 2))
    figure.text(0.5, 0.5, text, ha="center", va="center", wrap=True)
    FigureCanvasAgg(figure).print_png(path)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n")
