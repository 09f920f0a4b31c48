"""A linked dataset is planned and trained on as any other."""

from __future__ import annotations

import pytest

from nnunetv2_s2ca.synthetic.brats import write_brats2019
from tests.commands import TWO_STEPS, extract_fingerprint, provide_short_trainer, run


@pytest.mark.slow
def test_linked_dataset_is_planned_and_trained_on(nnunet_folders, monkeypatch):
    provide_short_trainer(nnunet_folders, monkeypatch, base="nnUNetTrainerS2CA_B")
    source = nnunet_folders / "source"
    write_brats2019(source, patients=2, shape=(32, 40, 32), spacing=5.0)
    run("s2ca", "convert", "brats2019", source, "--link")
    images = nnunet_folders / "nnUNet_raw" / "Dataset043_BraTS2019" / "imagesTr"
    assert not list(images.iterdir())
    extract_fingerprint(43)
    run(
        "nnUNetv2_plan_and_preprocess",
        *("-d", 43, "-c", "3d_fullres", "-np", 1, "--verify_dataset_integrity"),
    )
    run("nnUNetv2_train", 43, "3d_fullres", "all", "-tr", TWO_STEPS, "-device", "cpu")
    assert list((nnunet_folders / "nnUNet_results").rglob("checkpoint_final.pth"))
