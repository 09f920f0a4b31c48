"""Folders of trained models as nnU-Net writes them, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from benchmarks.plans import make_plans, plain_unet

REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3}
# a network that is exported within seconds
TINY = {
    "features_per_stage": [8, 8, 8, 8],
    "encoder_branches": [],
    "decoder_branches": [],
    "context_aggregation": False,
}
STATISTICS = {"mean": 100.5, "std": 20.25, "percentile_00_5": -7.0, "percentile_99_5": 310.0}


def write_model(
    folder: Path,
    *,
    trainer: str = "nnUNetTrainerS2CA",
    patch_size: tuple[int, int, int] = (16, 16, 16),
    labels: dict | None = None,
    schemes: tuple[str, ...] = ("ZScoreNormalization",) * 4,
    network: dict | None = TINY,
    fold: str = "0",
) -> Path:
    """Write `plans.json`, `dataset.json` and the checkpoint of one fold; returns `folder`."""
    labels = labels or REGIONS
    dataset = {
        "channel_names": {str(i): f"MRI {i}" for i in range(len(schemes))},
        "labels": labels,
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    if any(isinstance(value, list) for value in labels.values()):
        dataset["regions_class_order"] = [1, 2, 3]
    plans = _plans(patch_size, schemes, network)
    torch.manual_seed(1)
    manager = PlansManager(plans)
    configuration = manager.get_configuration("3d_fullres")
    built = recursive_find_trainer_class_by_name(trainer).build_network_architecture(
        manager,
        configuration,
        determine_num_input_channels(manager, configuration, dataset),
        manager.get_label_manager(dataset).num_segmentation_heads,
    )
    checkpoint = {
        "network_weights": built.state_dict(),
        "trainer_name": trainer,
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": (0, 1),
    }
    (folder / f"fold_{fold}").mkdir(parents=True)
    torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


def _plans(patch_size, schemes, network):
    configuration = {
        "patch_size": list(patch_size),
        "median_image_size_in_voxels": list(patch_size),
        "spacing": [2.5, 1.0, 0.75],
        "normalization_schemes": list(schemes),
        "architecture": plain_unet([8, 8, 8, 8], blocks=1),
    }
    if network is not None:
        configuration["s2ca_net"] = network
    return make_plans(
        configuration,
        transpose_forward=[2, 0, 1],
        transpose_backward=[1, 2, 0],
        foreground_intensity_properties_per_channel={
            str(i): {**STATISTICS, "mean": STATISTICS["mean"] + i} for i in range(len(schemes))
        },
    )
