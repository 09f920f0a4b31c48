"""Probabilities and uncertainty, against what nnU-Net saves member by member."""

from __future__ import annotations

import itertools
import json

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import nn

import nnunetv2_s2ca
from nnunetv2_s2ca.segmentation.model import PredictorSettings, load_model
from tests.segmentation.images import dice, labels, reoriented, stored_as
from tests.segmentation.tiny_model import CHANNELS, PLAIN, write_model

MIRRORINGS = [axes for n in range(3) for axes in itertools.combinations((2, 4), n)]
REGIONS = ("WT", "TC", "ET")


class Flipped(nn.Module):
    """A network that sees its input mirrored."""

    def __init__(self, network, axes):
        super().__init__()
        self.network, self.axes = network, axes

    def forward(self, x):
        return torch.flip(self.network(torch.flip(x, self.axes)), self.axes)

    def load_state_dict(self, weights):
        return self.network.load_state_dict(weights)


def saved_probabilities(scans, model, folder, *, axes=None, folds=(0, 1)) -> np.ndarray:
    """nnU-Net's `--save_probabilities`, (C, X, Y, Z); of one mirroring if `axes` are given."""
    (folder / "out").mkdir(parents=True)
    for number, name in enumerate(CHANNELS):
        (folder / f"case_{number:04d}.nii.gz").symlink_to(scans[name.lower()])
    predictor = nnUNetPredictor(
        use_mirroring=axes is None, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(model), folds)
    if axes:
        predictor.network = Flipped(predictor.network, axes)
    predictor.predict_from_files_sequential(
        str(folder), str(folder / "out"), save_probabilities=True
    )
    probabilities = np.load(folder / "out" / "case.npz")["probabilities"]
    return probabilities.transpose(0, 3, 2, 1)


@pytest.fixture(scope="module")
def members(place, patient, model):
    """The probabilities of each fold and mirroring, (members, regions, X, Y, Z)."""
    from tests.segmentation.conftest import scans_in

    return np.stack(
        [
            saved_probabilities(
                scans_in(patient),
                model,
                place / "members" / f"{fold}{''.join(map(str, axes))}",
                axes=axes,
                folds=(fold,),
            )
            for fold in (0, 1)
            for axes in MIRRORINGS
        ]
    )


@pytest.fixture(scope="module")
def result(place, patient, model):
    from tests.segmentation.conftest import scans_in

    folder = place / "uncertain"
    return nnunetv2_s2ca.segment(
        scans_in(patient),
        folder / "seg.nii.gz",
        model=model,
        device="cpu",
        probabilities=True,
        uncertainty=True,
        report=folder / "seg.json",
    )


def map_of(result, name) -> np.ndarray:
    return labels(result.path.with_name(f"seg_{name}.nii.gz"))


def test_labels_are_the_same_with_and_without_maps(result, straight):
    assert np.array_equal(labels(result.path), labels(straight))


def test_probabilities_are_those_that_nnunet_saves(tmp_path, result, scans, model):
    saved = saved_probabilities(scans, model, tmp_path / "theirs")
    for number, region in enumerate(REGIONS):
        assert np.array_equal(map_of(result, f"probability_{region}"), saved[number])
        written = nib.load(result.path.with_name(f"seg_probability_{region}.nii.gz"))
        assert np.array_equal(written.affine, nib.load(result.path).affine)


def test_disagreement_is_the_spread_of_the_saved_probabilities(result, members):
    for number, region in enumerate(REGIONS):
        expected = members[:, number].astype(np.float64).std(0)
        assert expected.max() > 0.05
        np.testing.assert_allclose(map_of(result, f"disagreement_{region}"), expected, atol=1e-3)


def test_numbers_are_those_of_the_saved_probabilities(result, members):
    numbers = json.loads(result.path.with_name("seg.json").read_text())["uncertainty"]
    assert numbers["members"] == 8
    own = []
    for number, region in enumerate(REGIONS):
        ensemble = map_of(result, f"probability_{region}") > 0.5
        own.append(1 - np.mean([dice(mask > 0.5, ensemble) for mask in members[:, number]]))
        assert own[-1] > 0.001
        assert numbers["disagreement"][region] == pytest.approx(own[-1], abs=2e-3)
    assert numbers["mean_disagreement"] == pytest.approx(np.mean(own), abs=2e-3)


def test_entropy_is_that_of_the_probabilities(result):
    p = np.stack([map_of(result, f"probability_{region}") for region in REGIONS]).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.nan_to_num(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)))
    np.testing.assert_allclose(map_of(result, "entropy"), bits.mean(0), atol=1e-4)
    assert map_of(result, "entropy").max() > 0.5


def test_no_fold_is_predicted_twice(scans, model, tmp_path, monkeypatch):
    calls = []
    forward = nn.Conv3d.forward
    monkeypatch.setattr(nn.Conv3d, "forward", lambda self, x: calls.append(1) or forward(self, x))
    options = {"model": model, "device": "cpu", "step_size": 1.0}
    nnunetv2_s2ca.segment(scans, tmp_path / "a.nii.gz", **options)
    alone, calls[:] = len(calls), []
    nnunetv2_s2ca.segment(
        scans, tmp_path / "b.nii.gz", **options, probabilities=True, uncertainty=True
    )
    assert len(calls) == alone
    assert alone % 8 == 0


def test_maps_follow_the_orientation_of_the_scans(tmp_path, scans, model, result):
    stored = stored_as(scans, tmp_path / "in", lambda image: reoriented(image, "RSA"))
    nnunetv2_s2ca.segment(
        stored, tmp_path / "seg.nii.gz", model=model, device="cpu", uncertainty=True
    )
    for name in ("entropy", "disagreement_ET"):
        source = nib.load(result.path.with_name(f"seg_{name}.nii.gz"))
        expected = np.asarray(reoriented(source, "RSA").dataobj)
        assert np.array_equal(labels(tmp_path / f"seg_{name}.nii.gz"), expected)


def segmented_with_maps(scans, output, model):
    return nnunetv2_s2ca.segment(
        scans, output, model=model, device="cpu", probabilities=True, uncertainty=True
    )


def test_regions_of_a_model_with_plain_labels_are_sums(tmp_path, scans, place):
    model = write_model(tmp_path / "results", labels=PLAIN, folds=1)
    saved = saved_probabilities(scans, model, tmp_path / "theirs", folds=(0,))
    done = segmented_with_maps(scans, tmp_path / "seg.nii.gz", model)
    for region, parts in {"WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)}.items():
        np.testing.assert_allclose(
            map_of(done, f"probability_{region}"), saved[list(parts)].sum(0), atol=1e-6
        )
    assert done.report["uncertainty"]["members"] == 4


@pytest.mark.parametrize(
    "configuration",
    [
        # the authors' preprocessing, for which the volume is padded
        {"preprocessor_name": "S2CAPreprocessorWholeVolume", "s2ca_extent": [200, 200, 200]},
        {"spacing": [6.0, 6.0, 6.0]},
    ],
)
def test_maps_follow_other_preprocessing(tmp_path, scans, place, configuration):
    model = write_model(tmp_path / "results", folds=1, configuration=configuration)
    saved = saved_probabilities(scans, model, tmp_path / "theirs", folds=(0,))
    done = segmented_with_maps(scans, tmp_path / "seg.nii.gz", model)
    assert np.array_equal(map_of(done, "probability_WT"), saved[0])
    spread = map_of(done, "disagreement_WT")
    assert spread.shape == saved[0].shape
    # members disagree most where the ensemble is not sure
    unsure = (saved[0] > 0.2) & (saved[0] < 0.8)
    assert 0 < 3 * spread[~unsure].mean() < spread[unsure].mean()


def test_one_member_alone_cannot_disagree(tmp_path, scans, model):
    with pytest.raises(nnunetv2_s2ca.UserError, match="one fold without mirroring"):
        nnunetv2_s2ca.segment(
            scans,
            tmp_path / "seg.nii.gz",
            model=model,
            device="cpu",
            folds=(0,),
            mirroring=False,
            uncertainty=True,
        )
    assert list(tmp_path.iterdir()) == []


def test_the_digest_depends_on_weights_and_folds(model, tmp_path, place):
    def digest(path, folds=None):
        return load_model(path, PredictorSettings(folds=folds, device="cpu")).sha256

    assert digest(model) == digest(write_model(tmp_path / "same"))
    assert digest(model) != digest(write_model(tmp_path / "other", seed=9))
    assert digest(model) != digest(model, ("0",))
