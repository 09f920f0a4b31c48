"""The preprocessor for the authors' weights, against their normalisation written out."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_s2ca import startup
from nnunetv2_s2ca.checkpoints.model_folder import make_plans
from nnunetv2_s2ca.checkpoints.network import Architecture
from nnunetv2_s2ca.preprocessing.whole_volume import EXTENT_KEY

startup.register()

DATASET_JSON = {
    "channel_names": {str(i): f"MRI {i}" for i in range(4)},
    "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "ET": [3]},
    "regions_class_order": [1, 2, 3],
    "file_ending": ".nii.gz",
}
EXTENT = (24, 22, 20)  # x, y, z


def _run(data, *, seg=None, spacing=(1.0, 1.0, 1.0), extent=EXTENT):
    """Preprocess as nnU-Net would with the plans of an imported model; axes z, y, x."""
    architecture = Architecture(4, 4, (16,) * 3, (8, 16, 32, 64), ((32, 1),) * 2, ((32, 1),) * 2)
    plans = make_plans(architecture, dataset="Dataset001_Test")
    plans["configurations"]["3d_fullres"][EXTENT_KEY] = extent
    manager = PlansManager(plans)
    configuration = manager.get_configuration("3d_fullres")
    preprocessor = configuration.preprocessor_class(verbose=False)
    result = preprocessor.run_case_npy(
        data, seg, {"spacing": list(spacing)}, manager, configuration, DATASET_JSON
    )
    return result, manager


def _brain(shape=(15, 22, 24), seed=0):
    """Four channels, zero but for a box in the middle."""
    data = np.zeros((4, *shape), np.float32)
    inside = tuple(slice(n // 4, 3 * n // 4) for n in shape)
    rng = np.random.default_rng(seed)
    data[(slice(None), *inside)] = rng.gamma(4, 100, data[(slice(None), *inside)].shape)
    return data


def test_volume_is_normalised_whole_and_padded():
    data = _brain()
    (ours, seg, properties), _ = _run(data)
    # theirs: x, y, z, padded by three slices below and two above
    theirs = np.zeros((4, 24, 22, 20))
    theirs[:, :, :, 3:18] = data.transpose(0, 3, 2, 1)
    for channel in theirs:
        channel[:] = (channel - channel.mean()) / channel.std()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert ours.dtype == np.float32
    assert seg.shape == (1, 24, 22, 20)
    assert properties["bbox_used_for_cropping"] == [[0, 24], [0, 22], [-3, 17]]


def test_input_is_left_as_it_was():
    data = _brain()
    before = data.copy()
    _run(data)
    np.testing.assert_array_equal(data, before)


def test_volume_larger_than_the_extent_keeps_its_size():
    (ours, _, _), _ = _run(_brain((30, 40, 26)))
    assert ours.shape == (4, 26, 40, 30)
    np.testing.assert_allclose(ours.std((1, 2, 3)), 1, rtol=1e-4)


def test_extent_is_in_millimetres_and_spacing_becomes_the_plans():
    (ours, _, _), _ = _run(_brain((6, 22, 12)), spacing=(2.0, 1.0, 2.0))
    assert ours.shape == (4, 24, 22, 20)


def test_missing_modality_stays_finite():
    data = _brain()
    data[2] = 0
    (ours, _, _), _ = _run(data)
    assert np.isfinite(ours).all()
    assert not ours[2].any()


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((15, 22, 24), (1.0, 1.0, 1.0)),
        ((30, 40, 26), (1.0, 1.0, 1.0)),
        ((10, 40, 24), (2.0, 0.5, 1.0)),
    ],
)
def test_nnunets_export_puts_a_prediction_back_into_place(shape, spacing, probabilities):
    data = _brain(shape)
    seg = np.zeros((1, *shape), np.int8)
    centre = tuple(n // 2 for n in shape)
    box = tuple(slice(c - 2, c + 3) for c in centre)
    seg[(0, *box)] = 3
    seg[0, -4:, -6:, -3:] = 1  # two corners, beside the padding
    seg[0, :4, :6, :3] = 2
    (ours, ours_seg, properties), manager = _run(data, seg=seg, spacing=spacing)
    assert ours_seg.shape[1:] == ours.shape[1:]
    # a network that is sure of the segmentation
    regions = [(1, 2, 3), (2, 3), (3,)]
    logits = np.stack([np.where(np.isin(ours_seg[0], r), 9.0, -9.0) for r in regions])
    result = convert_predicted_logits_to_segmentation_with_correct_shape(
        torch.from_numpy(logits).float(),
        manager,
        manager.get_configuration("3d_fullres"),
        manager.get_label_manager(DATASET_JSON),
        properties,
        return_probabilities=probabilities,
        num_threads_torch=1,
    )
    back = result[0] if probabilities else result
    assert back.shape == shape
    if probabilities:
        assert result[1].shape == (3, *shape)
    if spacing == (1.0, 1.0, 1.0):
        np.testing.assert_array_equal(back, seg[0])
    else:  # resampling there and back blurs the edges
        assert (back == seg[0]).mean() > 0.98


def test_foreground_for_training_is_found_where_it_is():
    data = _brain()
    seg = np.zeros((1, *data.shape[1:]), np.int8)
    seg[0, 3, 4, 5] = 3
    (_, _, properties), _ = _run(data, seg=seg)
    for region in [(1, 2, 3), (2, 3), (3,)]:
        np.testing.assert_array_equal(properties["class_locations"][region], [[0, 5, 4, 6]])


def test_new_python_process_finds_it_through_nnunet():
    program = (
        "from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager;"
        "name = 'S2CAPreprocessorWholeVolume';"
        "found = ConfigurationManager({'architecture': {}, 'preprocessor_name': name});"
        "print(found.preprocessor_class.__module__)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "nnunetv2_s2ca.preprocessing.whole_volume"
