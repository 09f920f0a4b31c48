"""What a program needs besides the network, to predict as nnU-Net does."""

from __future__ import annotations

from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.helpers import softmax_helper_dim0
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from nnunetv2_s2ca.models.folder import training_orientation
from nnunetv2_s2ca.network_export.trained_network import TrainedNetwork
from nnunetv2_s2ca.preprocessing.whole_volume import EXTENT_KEY

# nnU-Net's, which `nnUNetv2_predict` uses unless told otherwise
STEP_SIZE = 0.5
GAUSSIAN_SIGMA = 1 / 8
# schemes that look at the image alone; any other may need the statistics of the training cases
WITHOUT_STATISTICS = (
    "ZScoreNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
)
NONLINEARITIES = {torch.sigmoid: "sigmoid", softmax_helper_dim0: "softmax"}


def describe_network(trained: TrainedNetwork) -> dict[str, Any]:
    """The description of a trained network, for a JSON file; `docs/export_network.md` has the keys.

    Args:
        trained: the network with nnU-Net's plans and labels.
    """
    predictor = trained.predictor
    configuration = predictor.configuration_manager
    orientation, source = training_orientation(trained.folder)
    return {
        "model": {
            "dataset": predictor.plans_manager.dataset_name,
            "trainer": predictor.trainer_name,
            "plans": predictor.plans_manager.plans_name,
            "fold": trained.folder.folds[0],
            "checkpoint": trained.checkpoint.name,
            "parameters": sum(weight.numel() for weight in trained.network.parameters()),
        },
        "channels": _channels(predictor),
        "preprocessing": {
            "preprocessor": configuration.preprocessor_name,
            "reader": predictor.plans_manager.plans["image_reader_writer"],
            "orientation": {"axes": orientation, "known_from": source},
            "transpose_forward": list(predictor.plans_manager.transpose_forward),
            **_field_of_view(configuration),
            "normalization": _normalization(predictor),
            "spacing_mm": [float(mm) for mm in configuration.spacing],
            "resampling": _resampling(configuration, "data"),
        },
        "sliding_window": {
            "patch_size": [int(size) for size in configuration.patch_size],
            "step_size": STEP_SIZE,
            "gaussian_sigma": GAUSSIAN_SIGMA,
            "padding_value": 0,
            "mirroring_axes": [int(axis) for axis in predictor.allowed_mirroring_axes or ()],
        },
        "outputs": _outputs(predictor),
        "export": {
            "resampling": _resampling(configuration, "probabilities"),
            "transpose_backward": list(predictor.plans_manager.transpose_backward),
        },
    }


def _channels(predictor: nnUNetPredictor) -> list[str]:
    dataset = predictor.dataset_json
    names = dataset["channel_names"] if "channel_names" in dataset else dataset["modality"]
    channels = [names[key] for key in sorted(names, key=int)]
    previous = predictor.configuration_manager.previous_stage_name
    if previous is None:
        return channels
    labels = predictor.label_manager.foreground_labels
    return channels + [f"1 where {previous} predicts label {label}, else 0" for label in labels]


def _field_of_view(configuration: ConfigurationManager) -> dict[str, Any]:
    """Which part of the image the network is shown."""
    extent = configuration.configuration.get(EXTENT_KEY)
    if extent is not None:  # the preprocessor that looks at whole volumes
        return {"crop": None, "least_extent_mm": list(extent)}
    return {"crop": "nonzero", "least_extent_mm": None}


def _normalization(predictor: nnUNetPredictor) -> list[dict[str, Any]]:
    configuration = predictor.configuration_manager
    statistics = predictor.plans_manager.foreground_intensity_properties_per_channel
    schemes = zip(configuration.normalization_schemes, configuration.use_mask_for_norm, strict=True)
    whole_volume = configuration.configuration.get(EXTENT_KEY) is not None
    channels: list[dict[str, Any]] = []
    for number, (scheme, masked) in enumerate(schemes):
        if whole_volume:  # done by the preprocessor, so that the plan names none
            channels.append({"scheme": "ZScoreNormalization", "inside_mask_only": False})
            continue
        channel = {"scheme": scheme, "inside_mask_only": bool(masked)}
        if scheme not in WITHOUT_STATISTICS:
            channel["statistics"] = statistics[str(number)]
        channels.append(channel)
    return channels


def _resampling(configuration: ConfigurationManager, what: str) -> dict[str, Any]:
    plan = configuration.configuration
    return {
        "function": plan[f"resampling_fn_{what}"],
        "arguments": plan[f"resampling_fn_{what}_kwargs"],
    }


def _outputs(predictor: nnUNetPredictor) -> dict[str, Any]:
    """What the logits' channels mean, and how they become labels."""
    labels: LabelManager = predictor.label_manager
    heads = labels.foreground_regions if labels.has_regions else labels.all_labels
    return {
        "nonlinearity": NONLINEARITIES.get(
            labels.inference_nonlin, getattr(labels.inference_nonlin, "__name__", "unknown")
        ),
        "channels": [{"name": _name(predictor, head), "labels": _as_list(head)} for head in heads],
        "regions": labels.has_regions,
        # label that a region above the threshold writes, in this order, later over earlier
        "regions_class_order": list(labels.regions_class_order) if labels.has_regions else None,
        "threshold": 0.5 if labels.has_regions else None,
        "labels": predictor.dataset_json["labels"],
    }


def _name(predictor: nnUNetPredictor, head: int | tuple[int, ...]) -> str:
    labels = predictor.dataset_json["labels"]
    return next(
        name
        for name, value in labels.items()
        if name != "ignore" and _as_list(value) == _as_list(head)
    )


def _as_list(label: int | list[int] | tuple[int, ...]) -> list[int]:
    return [int(value) for value in label] if isinstance(label, (list, tuple)) else [int(label)]
