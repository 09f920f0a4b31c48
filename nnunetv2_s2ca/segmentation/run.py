"""One patient through the network: labels, and probabilities, on the grid of their scans."""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
)

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.postprocessing.rules import PostprocessingRules, postprocess
from nnunetv2_s2ca.segmentation.inputs import NetworkInput
from nnunetv2_s2ca.segmentation.model import LoadedModel


@dataclass(frozen=True)
class Prediction:
    """The network's answer, on the grid of `NetworkInput.scan`.

    Attributes:
        labels: The model's labels, `(Z, Y, X)`, uint8 or uint16.
        seconds: Of preprocessing, prediction and the way back.
    """

    labels: np.ndarray
    seconds: float
    probabilities: dict[str, np.ndarray] = field(default_factory=dict)


def predict(
    given: NetworkInput, model: LoadedModel, *, rules: PostprocessingRules | None = None
) -> Prediction:
    """Predict by nnU-Net's preprocessor, predictor and export.

    Args:
        given: The patient.
        model: The model.
        rules: Post-processing to apply.

    Raises:
        UserError: The memory does not suffice.
    """
    start = time.monotonic()
    predictor = model.predictor
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            preprocessor = configuration.preprocessor_class(verbose=False)
            data, _, properties = preprocessor.run_case_npy(
                given.voxels, None, given.properties, plans, configuration, predictor.dataset_json
            )
            data = torch.from_numpy(data).to(torch.float32, memory_format=torch.contiguous_format)
            logits = predictor.predict_logits_from_preprocessed_data(data).cpu().detach().numpy()
            labels = convert_predicted_logits_to_segmentation_with_correct_shape(
                logits, plans, configuration, predictor.label_manager, properties
            )
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise UserError(
            f"{given.scan.path}: needs more memory than there is; free memory, or use another "
            "machine or `device=cpu`"
        ) from error
    if rules is not None:
        labels = postprocess(labels, rules, regions=model.scheme.regions)
    return Prediction(given.turned.undo(labels), time.monotonic() - start)
