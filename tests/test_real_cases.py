"""The five commands of the README on two real patients, coarsely and briefly.

The shipped trainers, even that of the demo, take minutes here, and so does nnU-Net's fingerprint of
100 million voxels: so two iterations, a fingerprint of fewer voxels, and 3 mm.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.commands import TWO_STEPS, extract_fingerprint, provide_short_trainer, run

REAL_CASES = Path(__file__).parents[2] / "shared/real_cases/MICCAI_BraTS_2019_Data_Training"


@pytest.mark.slow
@pytest.mark.skipif(not REAL_CASES.is_dir(), reason="needs two real patients beside the checkout")
def test_five_commands_on_real_patients(nnunet_folders, monkeypatch):
    provide_short_trainer(nnunet_folders, monkeypatch)
    results = nnunet_folders / "nnUNet_results"

    run("s2ca", "convert", "brats2019", REAL_CASES)
    extract_fingerprint(43)
    # 3 mm in place of 1 mm: patches of some 48 voxels, and all else as in earnest
    run(
        "nnUNetv2_plan_and_preprocess",
        *("-d", 43, "-c", "3d_fullres", "-np", 1, "--verify_dataset_integrity"),
        *("-overwrite_target_spacing", 3, 3, 3),
    )
    train = ("nnUNetv2_train", 43, "3d_fullres", "all", "-tr", TWO_STEPS)
    run(*train, "-device", "cpu")
    images = nnunet_folders / "nnUNet_raw" / "Dataset043_BraTS2019" / "imagesTr"
    predictions = nnunet_folders / "predictions"
    run(
        "nnUNetv2_predict",
        *("-d", 43, "-i", images, "-o", predictions, "-c", "3d_fullres", "-f", "all"),
        *("-tr", TWO_STEPS, "-device", "cpu", "-npp", 1, "-nps", 1),
    )
    run("s2ca", "export", "-d", 43, "-i", predictions, "-o", nnunet_folders / "exported")

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
