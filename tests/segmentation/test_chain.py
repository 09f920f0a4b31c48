"""Two sequences from the download to the patient's segmentation, on another machine."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import nnunetv2_s2ca
from nnunetv2_s2ca.synthetic.brats import write_brats2019
from tests.commands import extract_fingerprint, run
from tests.jobs.test_chain import TRAINER
from tests.segmentation.images import labels

DATASET = "Dataset543_Two"


@pytest.mark.slow
def test_a_model_of_two_sequences_trained_packed_and_used_elsewhere(nnunet_folders, monkeypatch):
    trainers = nnunet_folders / "trainers"
    trainers.mkdir()
    (trainers / "TinyS2CA.py").write_text(TRAINER)
    monkeypatch.setenv("nnUNet_extTrainer", str(trainers))
    monkeypatch.setenv("nnUNet_compile", "f")
    first, _ = write_brats2019(
        nnunet_folders / "BraTS", patients=2, shape=(32, 32, 32), spacing=5.0
    )
    nnunetv2_s2ca.convert(
        "brats2019",
        nnunet_folders / "BraTS",
        dataset_id=543,
        name="Two",
        channels=["t1ce", "flair"],
        processes=1,
    )
    extract_fingerprint(543)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_n_proc_DA", "1")  # planning takes this for its number of threads
        run("nnUNetv2_plan_and_preprocess", "-d", 543, "-c", "3d_fullres", "-np", 1)
    run("nnUNetv2_train", 543, "3d_fullres", "all", "-tr", "TinyS2CA", "-device", "cpu")
    trained = nnunet_folders / "nnUNet_results" / DATASET / "TinyS2CA__nnUNetPlans__3d_fullres"
    packed = nnunetv2_s2ca.pack_model(trained, nnunet_folders / "model.zip")
    assert packed.card["edition"] == "brats2019"
    assert packed.card["orientation"] == "LPS"
    size = (trained / "fold_all" / "checkpoint_final.pth").stat().st_size
    assert packed.path.stat().st_size <= size / 2

    # another machine has the file, and nothing of the training
    images = nnunet_folders / "images"
    images.mkdir()
    for number, name in enumerate(("t1ce", "flair")):
        shutil.copy(first / f"{first.name}_{name}.nii.gz", images / f"case_{number:04d}.nii.gz")
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        shutil.rmtree(nnunet_folders / name)
        (nnunet_folders / name).mkdir()
    nnunetv2_s2ca.install_model(packed.path)
    model = ("-d", 543, "-c", "3d_fullres", "-tr", "TinyS2CA", "-f", "all", "-device", "cpu")
    predicted = nnunet_folders / "predicted"
    run("nnUNetv2_predict", "-i", images, "-o", predicted, *model, "-npp", 0, "-nps", 0)
    scans = {name: first / f"{first.name}_{name}.nii.gz" for name in ("t1ce", "flair")}
    done = nnunetv2_s2ca.segment(
        scans, nnunet_folders / "seg.nii.gz", model=packed.path, device="cpu"
    )
    assert np.array_equal(labels(done.path), labels(predicted / "case.nii.gz"))
