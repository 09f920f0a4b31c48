"""The demo's whole chain through the real commands, with a training that is next to none."""

from __future__ import annotations

import json
import os
import re

import nibabel as nib
import numpy as np
import pytest

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.demo.chain import run_demo
from nnunetv2_s2ca.demo.report import scores_table
from nnunetv2_s2ca.demo.settings import DemoSettings

# nnU-Net looks for trainers in the folders of nnUNet_extTrainer, too
TRAINER = '''
from nnunetv2_s2ca.training.demo import nnUNetTrainerS2CA_demo

class TinyTrainer(nnUNetTrainerS2CA_demo):
    """Two iterations of a small network."""

    length_in_epochs = 1
    network_arguments = {
        "features_per_stage": (8, 16, 32, 64),
        "encoder_branches": ((32, 2), (48, 1)),
        "decoder_branches": ((32, 1), (48, 1)),
    }

    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = 2
'''
SETTINGS = {
    "patients": 5,
    "held_out": 1,
    "folds": (0, 3),
    "trainer": "TinyTrainer",
    "shape": (32, 32, 32),
    "spacing": 5.0,
}


@pytest.fixture
def tiny_trainer(tmp_path, monkeypatch):
    folder = tmp_path / "trainers"
    folder.mkdir()
    (folder / "tiny.py").write_text(TRAINER)
    monkeypatch.setenv("nnUNet_extTrainer", str(folder))
    # a user's own folders
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "users_raw"))
    return "TinyTrainer"


@pytest.mark.slow
def test_chain_runs_from_patients_to_report_resumes_and_names_what_fails(tiny_trainer, tmp_path):
    output = tmp_path / "demo"
    said = []
    result = run_demo(output, DemoSettings(**SETTINGS), say=said.append)

    # each step is announced
    for number in range(1, 8):
        assert any(f"step {number}/7" in line for line in said)
    # two folds validated their own patients, and the ensemble predicted the one held out
    assert sorted(result.folds) == [0, 3]
    for scores in (*result.folds.values(), result.ensemble, result.processed):
        assert set(scores) == {"WT", "TC", "ET"}
        assert all(0 <= dice <= 1 for dice in scores.values())
    (prediction,) = (output / "predictions").glob("*.nii.gz")
    # and was post-processed by rules from the folds' patients
    assert (output / "postprocessed" / prediction.name).exists()
    rules = json.loads((output / "postprocessing.json").read_text())
    assert rules
    (truth,) = (output / "BraTS2019_held_out").glob("*/*/*_seg.nii.gz")
    assert truth.name == prediction.name.replace(".nii.gz", "_seg.nii.gz")
    image, true = nib.load(prediction), nib.load(truth)
    assert set(np.unique(np.asarray(image.dataobj))) <= {0, 1, 2, 3}
    assert image.shape == true.shape
    np.testing.assert_allclose(image.affine, true.affine, atol=1e-4)
    # the report says what it is about, and holds the table
    report = result.report.read_text(encoding="utf-8")
    assert "synthetic" in report
    assert scores_table(result) in report
    assert result.picture.read_bytes().startswith(b"\x89PNG")
    page = result.page.read_text(encoding="utf-8")
    assert "cross-validation" in page
    assert "ensemble on held-out patients" in page
    # the user's own folders stay as they are
    assert not (tmp_path / "users_raw").exists()
    assert os.environ["nnUNet_raw"] == str(tmp_path / "users_raw")  # noqa: SIM112 (nnU-Net's)

    # what was done is not done again
    said.clear()
    again = run_demo(output, DemoSettings(**SETTINGS), say=said.append)
    assert sum("done before" in line for line in said) == 6
    assert again.ensemble == result.ensemble

    # a step that fails is named with its log
    state = output / "demo_state.json"
    state.write_text(re.sub(r',\s*"predict",\s*"postprocess"', "", state.read_text()))
    for checkpoint in output.rglob("checkpoint_final.pth"):
        checkpoint.unlink()
    expected = r"(?s)predict failed.*predict\.log.*checkpoint_final\.pth"
    with pytest.raises(UserError, match=expected):
        run_demo(output, DemoSettings(**SETTINGS), say=said.append)


def test_error_of_the_chain_is_the_users(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        run_demo(tmp_path / "file")
