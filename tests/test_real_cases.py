"""The five commands of the README on two real patients, coarsely and briefly."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

REAL_CASES = Path(__file__).parents[2] / "shared/real_cases/MICCAI_BraTS_2019_Data_Training"
SCRIPTS = Path(sys.executable).parent

TRAINER = """
from nnunetv2_s2ca.training.trainer import nnUNetTrainerS2CA


class nnUNetTrainerTwoSteps(nnUNetTrainerS2CA):
    length_in_epochs = 1

    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 2, 1
"""


@pytest.mark.slow
@pytest.mark.skipif(not REAL_CASES.is_dir(), reason="needs two real patients beside the checkout")
def test_five_commands_on_real_patients(nnunet_folders, monkeypatch):
    trainers = nnunet_folders / "trainers"
    trainers.mkdir()
    (trainers / "two_steps.py").write_text(TRAINER)
    monkeypatch.setenv("nnUNet_extTrainer", str(trainers))
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    results = nnunet_folders / "nnUNet_results"

    _run("s2ca", "convert", "brats2019", REAL_CASES)
    # 3 mm in place of 1 mm: patches of some 48 voxels, and all else as in earnest
    _run(
        "nnUNetv2_plan_and_preprocess",
        *("-d", 43, "-c", "3d_fullres", "-np", 1, "--verify_dataset_integrity"),
        *("-overwrite_target_spacing", 3, 3, 3),
    )
    train = ("nnUNetv2_train", 43, "3d_fullres", "all", "-tr", "nnUNetTrainerTwoSteps")
    _run(*train, "-device", "cpu")
    images = nnunet_folders / "nnUNet_raw" / "Dataset043_BraTS2019" / "imagesTr"
    predictions = nnunet_folders / "predictions"
    _run(
        "nnUNetv2_predict",
        *("-d", 43, "-i", images, "-o", predictions, "-c", "3d_fullres", "-f", "all"),
        *("-tr", "nnUNetTrainerTwoSteps", "-device", "cpu", "-npp", 1, "-nps", 1),
    )
    _run("s2ca", "export", "-d", 43, "-i", predictions, "-o", nnunet_folders / "exported")

    assert len(list(results.rglob("checkpoint_final.pth"))) == 1
    sources = sorted(REAL_CASES.rglob("*_flair.nii.gz"))
    assert len(sources) == 2
    for source in sources:
        name = source.name.replace("_flair", "")
        image = nib.load(source)
        for folder, labels in (("predictions", {0, 1, 2, 3}), ("exported", {0, 1, 2, 4})):
            prediction = nib.load(nnunet_folders / folder / name)
            assert prediction.shape == image.shape
            np.testing.assert_allclose(prediction.affine, image.affine, atol=1e-5)
            assert set(np.unique(prediction.dataobj)) <= labels


def _run(command: str, *arguments: object) -> None:
    program = SCRIPTS / command if (SCRIPTS / command).exists() else shutil.which(command)
    result = subprocess.run(
        [str(program), *map(str, arguments)], capture_output=True, text=True, env=dict(os.environ)
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
