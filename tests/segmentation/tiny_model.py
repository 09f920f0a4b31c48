"""A trained model of nnU-Net that segments synthetic patients in milliseconds.

Its network is one convolution. The middle of the kernel finds tumour by the intensities of all four
sequences, so that exchanging two of them shows; the other weights are random, so that exchanging or
flipping axes shows as well.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.plans import make_plans

TRAINER = "nnUNetTrainerTinyForTests"
CHANNELS = ("T1", "T1ce", "T2", "FLAIR")
REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}
PLAIN = {"background": 0, "edema": 1, "non-enhancing": 2, "enhancing": 3}
SPACING = 5.0  # mm
DATASET = "Dataset778_TinyBraTS"

_SOURCE = f"""
from torch import nn
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class {TRAINER}(nnUNetTrainer):
    @staticmethod
    def build_network_architecture(
        plans_manager, configuration_manager, num_input_channels, num_output_channels,
        enable_deep_supervision=True,
    ):
        return nn.Conv3d(num_input_channels, num_output_channels, 3, padding=1)
"""


def provide_trainer(folder: Path) -> Path:
    """Write the trainer's module; the folder belongs into nnUNet_extTrainer."""
    place = folder / "trainers"
    place.mkdir(parents=True)
    (place / "tiny_for_tests.py").write_text(_SOURCE)
    return place


def write_model(
    results: Path,
    *,
    folds: int = 2,
    channels: tuple[str, ...] = CHANNELS,
    labels: dict[str, Any] | None = None,
    patch: int = 28,
    seed: int = 0,
    configuration: dict[str, Any] | None = None,
    with_optimizer: bool = True,
) -> Path:
    """Write a model's folder as nnU-Net leaves it after training; returns it.

    `configuration` holds entries of the plan's configuration in place of nnU-Net's.
    """
    labels = labels or REGIONS
    folder = results / DATASET / f"{TRAINER}__nnUNetPlans__3d_fullres"
    folder.mkdir(parents=True)
    dataset_json: dict[str, Any] = {
        "channel_names": {str(n): name for n, name in enumerate(channels)},
        "labels": labels,
        "numTraining": 12,
        "file_ending": ".nii.gz",
        "licence": "CC BY 4.0",
    }
    regions = any(isinstance(value, list) for value in labels.values())
    if regions:
        dataset_json["regions_class_order"] = [1, 2, 3]
    plans = _plans(channels, patch)
    plans["configurations"]["3d_fullres"] |= configuration or {}
    (folder / "dataset.json").write_text(json.dumps(dataset_json))
    (folder / "plans.json").write_text(json.dumps(plans))
    for fold in range(folds):
        generator = torch.Generator().manual_seed(seed + fold)
        weights = _weights(channels, 3 if regions else 4, generator, regions=regions)
        place = folder / f"fold_{fold}"
        (place / "validation").mkdir(parents=True)
        summary = {"foreground_mean": {"Dice": 0.5}, "mean": {}, "metric_per_case": []}
        (place / "validation" / "summary.json").write_text(json.dumps(summary))
        (place / "progress.png").write_bytes(b"")
        checkpoint = {
            "network_weights": weights,
            "optimizer_state": {"state": {n: torch.zeros_like(w) for n, w in weights.items()}}
            if with_optimizer
            else None,
            "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [0.5]},
            "_best_ema": 0.5,
            "current_epoch": 3,
            "init_args": {
                "plans": plans,
                "configuration": "3d_fullres",
                "fold": fold,
                "dataset_json": dataset_json,
                "device": torch.device("cpu"),
            },
            "trainer_name": TRAINER,
            "inference_allowed_mirroring_axes": (0, 2),
        }
        torch.save(checkpoint, place / "checkpoint_final.pth")
    return folder


def _weights(channels, outputs, generator, *, regions) -> dict[str, torch.Tensor]:
    # oedema is bright in FLAIR and T2, enhancing tumour in T1ce but not in T1
    signs = {
        "T1": (-0.2, -1.0, -3.0),
        "T1ce": (0.1, 0.5, 4.0),
        "T2": (1.0, 1.5, 0.3),
        "FLAIR": (2.5, 0.7, 0.6),
    }
    kernel = 0.05 * torch.randn((outputs, len(channels), 3, 3, 3), generator=generator)
    bias = torch.tensor([-4.0, -4.0, -5.0])
    first = 0 if regions else 1
    for number, name in enumerate(channels):
        kernel[first:, number, 1, 1, 1] += torch.tensor(signs[name])
    if not regions:
        bias = torch.cat([torch.zeros(1), bias])
    return {"weight": kernel, "bias": bias}


def _plans(channels, patch) -> dict[str, Any]:
    configuration = {
        "patch_size": [patch] * 3,
        "median_image_size_in_voxels": [32, 38, 30],
        "spacing": [SPACING] * 3,
        "normalization_schemes": ["ZScoreNormalization"] * len(channels),
        "architecture": {
            "network_class_name": "torch.nn.Conv3d",
            "arch_kwargs": {},
            "_kw_requires_import": [],
        },
    }
    return make_plans(configuration, dataset_name=DATASET)
