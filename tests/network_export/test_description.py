"""A program that knows the JSON file alone prepares images and reads logits as nnU-Net does."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy.ndimage import binary_fill_holes

from nnunetv2_s2ca.network_export.description import describe_network
from nnunetv2_s2ca.network_export.trained_network import load_trained_network
from tests.network_export.models import write_model

SCHEMES = ("ZScoreNormalization", "CTNormalization", "RescaleTo01Normalization", "NoNormalization")
SPACING = (1.0, 0.75, 2.5)  # of z, y, x in the files; the plan has the transposed axes


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model", schemes=SCHEMES)


def described(model):
    trained = load_trained_network(model, fold="0", checkpoint="checkpoint_final.pth")
    # as it comes out of a file
    return json.loads(json.dumps(describe_network(trained)))


def prepared(paths, preprocessing):
    """Steps 1 to 3 of `docs/export_network.md`; the images have the plan's spacing."""
    data = np.stack([sitk.GetArrayFromImage(sitk.ReadImage(path)) for path in paths])
    data = data.astype(np.float32).transpose(
        0, *(1 + i for i in preprocessing["transpose_forward"])
    )
    inside = binary_fill_holes((data != 0).any(0))
    assert preprocessing["crop"] == "nonzero"
    box = tuple(
        slice(axis.min(), axis.max() + 1) for axis in (np.nonzero(inside)[i] for i in range(3))
    )
    data, inside = data[(slice(None), *box)], inside[box]
    for channel, how in zip(data, preprocessing["normalization"], strict=True):
        scheme, known = how["scheme"], how.get("statistics", {})
        if scheme == "ZScoreNormalization":
            where = inside if how["inside_mask_only"] else np.ones_like(inside)
            channel[where] = (channel[where] - channel[where].mean()) / channel[where].std()
        elif scheme == "CTNormalization":
            clipped = channel.clip(known["percentile_00_5"], known["percentile_99_5"])
            channel[:] = (clipped - known["mean"]) / known["std"]
        elif scheme == "RescaleTo01Normalization":
            channel[:] = (channel - channel.min()) / (channel.max() - channel.min())
        else:
            assert scheme == "NoNormalization"
    return data


def test_images_are_prepared_as_nnunet_prepares_them(model, tmp_path):
    rng = np.random.default_rng(3)
    paths = []
    for number in range(len(SCHEMES)):
        image = np.zeros((20, 24, 18), np.float32)
        image[3:-2, 4:-6, 2:-5] = rng.normal(120, 60, (15, 14, 11))
        image[3:6, 4:7, 2:5] = 0  # a corner of the box outside the mask
        written = sitk.GetImageFromArray(image)
        written.SetSpacing(SPACING[::-1])
        paths.append(str(tmp_path / f"case_{number:04d}.nii.gz"))
        sitk.WriteImage(written, paths[-1])
    plans = PlansManager(str(model / "plans.json"))
    theirs, _, _ = DefaultPreprocessor(verbose=False).run_case(
        paths, None, plans, plans.get_configuration("3d_fullres"), str(model / "dataset.json")
    )
    ours = prepared(paths, described(model)["preprocessing"])
    assert ours.shape == theirs.shape == (4, 11, 15, 14)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("labels", [None, {"background": 0, "edema": 1, "core": 2}])
def test_logits_become_labels_as_in_nnunet(tmp_path, labels):
    model = write_model(tmp_path / "model", labels=labels)
    trained = load_trained_network(model, fold="0", checkpoint="checkpoint_final.pth")
    outputs = described(model)["outputs"]
    logits = torch.randn(len(outputs["channels"]), 6, 5, 4)
    if outputs["regions"]:
        assert outputs["nonlinearity"] == "sigmoid"
        ours = np.zeros(logits.shape[1:])
        for probability, label in zip(
            torch.sigmoid(logits).numpy(), outputs["regions_class_order"], strict=True
        ):
            ours[probability > outputs["threshold"]] = label
    else:
        assert outputs["nonlinearity"] == "softmax"
        values = np.array([channel["labels"][0] for channel in outputs["channels"]])
        ours = values[logits.numpy().argmax(0)]
    theirs = trained.predictor.label_manager.convert_logits_to_segmentation(logits)
    assert len(np.unique(ours)) > 2
    np.testing.assert_array_equal(ours, theirs.numpy())
