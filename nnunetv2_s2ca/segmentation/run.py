"""One patient through the network: labels, probabilities and uncertainty, on the scan's grid."""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import insert_crop_into_image
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
)
from torch import Tensor

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.postprocessing.rules import PostprocessingRules, postprocess
from nnunetv2_s2ca.segmentation.inputs import NetworkInput
from nnunetv2_s2ca.segmentation.members import MemberStatistics, entropy
from nnunetv2_s2ca.segmentation.model import LoadedModel


@dataclass(frozen=True)
class Prediction:
    """The network's answer, on the grid of `NetworkInput.scan`.

    Attributes:
        labels: The model's labels, `(Z, Y, X)`, uint8 or uint16.
        seconds: Of preprocessing, prediction and the way back.
        maps: Name → map `(Z, Y, X)`, float32: `probability_WT`, `disagreement_WT`, `entropy`.
        uncertainty: Number of members, and their disagreement.
    """

    labels: np.ndarray
    seconds: float
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    uncertainty: dict[str, Any] | None = None


def map_names(model: LoadedModel, *, probabilities: bool, uncertainty: bool) -> list[str]:
    """The maps that `predict` makes."""
    names = [region.name for region in model.regions]
    made = [f"probability_{name}" for name in names] if probabilities else []
    if uncertainty:
        made += ["entropy", *(f"disagreement_{name}" for name in names)]
    return made


def check_members(model: LoadedModel, *, uncertainty: bool) -> None:
    """Refuse to compare a single member with itself.

    Raises:
        UserError: `uncertainty` is asked of one fold without mirroring.
    """
    if uncertainty and model.predictor.count_members() < 2:
        raise UserError(
            f"`uncertainty` compares folds and mirrorings, but {model.name} would predict with "
            "one fold without mirroring; use several folds, or mirroring"
        )


def predict(
    given: NetworkInput,
    model: LoadedModel,
    *,
    rules: PostprocessingRules | None = None,
    probabilities: bool = False,
    uncertainty: bool = False,
) -> Prediction:
    """Predict by nnU-Net's preprocessor, predictor and export.

    Args:
        given: The patient.
        model: The model.
        rules: Post-processing to apply to the labels.
        probabilities: Also give the probability of each region.
        uncertainty: Also give entropy, and disagreement of the members.

    Raises:
        UserError: The memory does not suffice, or one member is asked for uncertainty.
    """
    check_members(model, uncertainty=uncertainty)
    start = time.monotonic()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            prediction = _predict(given, model, probabilities or uncertainty, uncertainty)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise UserError(
            f"{given.scan.path}: needs more memory than there is; free memory, or use another "
            "machine or `device=cpu`"
        ) from error
    finally:
        model.predictor.statistics = None
    labels, maps, numbers = prediction
    if rules is not None:
        labels = postprocess(labels, rules, regions=model.scheme.regions)
    wanted = map_names(model, probabilities=probabilities, uncertainty=uncertainty)
    return Prediction(
        given.turned.undo(labels),
        time.monotonic() - start,
        {name: given.turned.undo(maps[name]) for name in wanted},
        numbers,
    )


def _predict(
    given: NetworkInput, model: LoadedModel, with_maps: bool, uncertainty: bool
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any] | None]:
    predictor = model.predictor
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    to_regions = partial(_regions_of_logits, model)
    if uncertainty:
        predictor.statistics = MemberStatistics(to_regions)
    preprocessor = configuration.preprocessor_class(verbose=False)
    data, _, properties = preprocessor.run_case_npy(
        given.voxels, None, given.properties, plans, configuration, predictor.dataset_json
    )
    data = torch.from_numpy(data).to(torch.float32, memory_format=torch.contiguous_format)
    logits = predictor.predict_logits_from_preprocessed_data(data).cpu().detach().numpy()
    export = partial(
        convert_predicted_logits_to_segmentation_with_correct_shape,
        logits,
        plans,
        configuration,
        predictor.label_manager,
        properties,
    )
    if not with_maps:
        return export(), {}, None
    labels, channels = export(return_probabilities=True)
    if not predictor.label_manager.has_regions:
        labels = export()  # nnU-Net's command takes the largest logit, not probability
    names = [region.name for region in model.regions]
    regions = region_probabilities(model, torch.from_numpy(channels)).numpy()
    maps = {f"probability_{name}": p for name, p in zip(names, regions, strict=True)}
    if predictor.statistics is None:
        return labels, maps, None
    statistics = predictor.statistics
    maps["entropy"] = entropy(regions)
    deviation = _on_scan(statistics.deviation(), model, properties)
    maps |= {f"disagreement_{name}": d for name, d in zip(names, deviation, strict=True)}
    disagreement = statistics.disagreement(torch.from_numpy(logits))
    numbers = {
        "members": statistics.count,
        "disagreement": dict(zip(names, disagreement, strict=True)),
        "mean_disagreement": float(np.mean(disagreement)),
    }
    return labels, maps, numbers


def region_probabilities(model: LoadedModel, channels: Tensor) -> Tensor:
    """Probabilities of the model's regions from those of its channels.

    Args:
        model: Its channels are regions, or labels that exclude each other.
        channels: `(C, …)`.

    Returns:
        `(R, …)`, in the order of `model.regions`.
    """
    labels = model.predictor.label_manager
    if labels.has_regions:
        order = [set(region.labels) for region in model.scheme.regions]
        return channels[[order.index(set(region.labels)) for region in model.regions]]
    places = {label: place for place, label in enumerate(labels.all_labels)}
    summed = [
        channels[[places[label] for label in region.labels]].sum(0) for region in model.regions
    ]
    return torch.stack(summed).clamp_(max=1)


def _regions_of_logits(model: LoadedModel, logits: Tensor) -> Tensor:
    channels = model.predictor.label_manager.apply_inference_nonlin(logits)
    return region_probabilities(model, channels)


def _on_scan(maps: np.ndarray, model: LoadedModel, properties: dict[str, Any]) -> np.ndarray:
    """Maps from the network's grid to that of the input, as nnU-Net exports probabilities."""
    plans, configuration = model.predictor.plans_manager, model.predictor.configuration_manager
    spacing = [properties["spacing"][axis] for axis in plans.transpose_forward]
    planned = list(configuration.spacing)
    planned = [*spacing[: len(spacing) - len(planned)], *planned]
    shape = properties["shape_after_cropping_and_before_resampling"]
    inside = np.asarray(configuration.resampling_fn_probabilities(maps, shape, planned, spacing))
    whole = np.zeros((len(maps), *properties["shape_before_cropping"]), np.float32)
    whole = insert_crop_into_image(whole, inside, properties["bbox_used_for_cropping"])
    return whole.transpose(0, *(axis + 1 for axis in plans.transpose_backward))
