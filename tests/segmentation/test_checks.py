"""Warnings about scans that look wrong."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import nnunetv2_s2ca
from nnunetv2_s2ca.imaging.scans import read_scan
from nnunetv2_s2ca.segmentation.checks import exchanged_sequences, odd_about_scan
from nnunetv2_s2ca.synthetic.hard_patient import make_hard_patient
from nnunetv2_s2ca.synthetic.patient import make_patient
from tests.segmentation.tiny_model import CHANNELS, write_model

REAL_CASES = Path(__file__).parents[3] / "shared/real_cases/MICCAI_BraTS_2019_Data_Training/LGG"


def real_patients() -> list[dict[str, np.ndarray]]:
    folders = sorted(REAL_CASES.iterdir()) if REAL_CASES.is_dir() else []
    return [
        {
            name: np.asarray(
                nib.load(folder / f"{folder.name}_{name.lower()}.nii.gz").dataobj
            ).T.astype(np.float32)
            for name in CHANNELS
        }
        for folder in folders
    ]


def synthetic_patients() -> list[dict[str, np.ndarray]]:
    size = {"shape": (48, 54, 42), "spacing": 4.0}
    made = [make_patient(seed, **size) for seed in range(3)] + [make_hard_patient(7, **size)]
    return [{name: patient.images[name.lower()].T for name in CHANNELS} for patient in made]


def check_exchanges(images):
    assert list(exchanged_sequences(images)) == []
    for first, second in itertools.combinations(CHANNELS, 2):
        swapped = {**images, first: images[second], second: images[first]}
        warnings = list(exchanged_sequences(swapped))
        if "T2" in (first, second):
            assert any("looks like the T2" in text for text in warnings), (first, second)


def test_exchanged_sequences_of_synthetic_patients_are_named():
    for images in synthetic_patients():
        check_exchanges(images)


@pytest.mark.skipif(not REAL_CASES.is_dir(), reason="needs two real patients beside the checkout")
def test_exchanged_sequences_of_real_patients_are_named():
    for images in real_patients():
        check_exchanges(images)
        swapped = {**images, "T1": images["T1ce"], "T1ce": images["T1"]}
        assert any("brighter vessels" in text for text in exchanged_sequences(swapped))


def test_two_sequences_alone_are_not_compared():
    patient = make_patient(1, shape=(32, 36, 28), spacing=5.0)
    images = {name: patient.images[name.lower()].T for name in CHANNELS}
    some = {name: images[name] for name in ("T2", "FLAIR")}
    assert list(exchanged_sequences(some)) == []
    blank = {name: np.zeros((9, 9, 9), np.float32) for name in CHANNELS}
    assert list(exchanged_sequences(blank)) == []


@pytest.mark.parametrize(
    ("fill", "spacing", "expected"),
    [(0, 1.0, []), (5, 1.0, ["skull"]), (0, 2.5, ["2.5 × 1 × 1 mm"]), (0, 2.0, [])],
)
def test_skull_and_coarse_voxels_are_named(tmp_path, fill, spacing, expected):
    voxels = np.full((10, 10, 10), fill, np.int16)
    voxels[:5] = np.arange(500).reshape(5, 10, 10) + 1
    nib.save(nib.Nifti1Image(voxels, np.diag([spacing, 1, 1, 1])), tmp_path / "t1.nii")
    warnings = list(odd_about_scan("T1", read_scan(tmp_path / "t1.nii")))
    assert len(warnings) == len(expected)
    assert all(word in text for word, text in zip(expected, warnings, strict=True))


@pytest.mark.parametrize(
    ("qform", "sform", "expected"),
    [(1, 2, "differ by 18.0 mm"), (0, 0, "no qform and no sform"), (0, 1, None), (1, 0, None)],
)
def test_uncertain_places_are_named(tmp_path, qform, sform, expected):
    image = nib.Nifti1Image(np.arange(1000, dtype=np.int16).reshape(10, 10, 10), np.eye(4))
    image.set_qform(np.diag([-1.0, 1, 1, 1]), code=qform)
    image.set_sform(np.eye(4), code=sform)
    nib.save(image, tmp_path / "t1.nii")
    remarks = read_scan(tmp_path / "t1.nii").remarks
    assert [expected in text for text in remarks] == ([] if expected is None else [True])


def test_an_empty_result_is_a_warning(tmp_path, scans, place):
    import torch

    model = write_model(tmp_path / "results", folds=1)
    file = model / "fold_0" / "checkpoint_final.pth"
    content = torch.load(file, weights_only=False)
    content["network_weights"]["bias"] -= 1000
    torch.save(content, file)
    done = nnunetv2_s2ca.segment(
        scans,
        tmp_path / "seg.nii.gz",
        model=model,
        device="cpu",
        mirroring=False,
        preview=tmp_path / "p.png",
    )
    assert any("no tumour was found" in text for text in done.warnings)
    assert done.volumes_ml == {"WT": 0, "TC": 0, "ET": 0}
    assert done.lesions == {"WT": 0, "TC": 0, "ET": 0}


def test_a_model_of_fewer_sequences_asks_for_these_only(tmp_path, scans, place):
    model = write_model(tmp_path / "results", folds=1, channels=("T1ce", "FLAIR"))
    options = {"model": model, "device": "cpu", "mirroring": False}
    few = {name: scans[name] for name in ("t1ce", "flair")}
    done = nnunetv2_s2ca.segment(few, tmp_path / "few.nii.gz", **options)
    assert done.volumes_ml["WT"] > 0
    every = nnunetv2_s2ca.segment(scans, tmp_path / "all.nii.gz", **options)
    assert any(text.startswith("T1, T2: the model was trained without") for text in every.warnings)
    assert (tmp_path / "few.nii.gz").read_bytes() == (tmp_path / "all.nii.gz").read_bytes()
    grid = nib.Nifti1Image(np.asarray(nib.load(scans["t1"]).dataobj)[2:], np.diag([5, 5, 5, 1]))
    grid.set_sform(nib.load(scans["t1"]).slicer[2:].affine, code=1)
    nib.save(grid, tmp_path / "t1.nii")
    other = {**few, "t1": tmp_path / "t1.nii"}
    done = nnunetv2_s2ca.segment(other, tmp_path / "t1_seg.nii.gz", space="t1", **options)
    assert nib.load(done.path).shape == grid.shape
    with pytest.raises(nnunetv2_s2ca.UserError, match="`space` is t2, of which there is no file"):
        nnunetv2_s2ca.segment(few, tmp_path / "x.nii", space="t2", **options)
    with pytest.raises(nnunetv2_s2ca.UserError, match="FLAIR is missing"):
        nnunetv2_s2ca.segment({"t1ce": scans["t1ce"]}, tmp_path / "x.nii", **options)
