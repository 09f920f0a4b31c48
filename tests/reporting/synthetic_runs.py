"""A cross-validation of synthetic patients in nnU-Net's folders, without any training."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

from nnunetv2_s2ca.synthetic.patient import make_patient

DATASET = "Dataset043_BraTS2019"
MODEL = "nnUNetTrainerS2CA__nnUNetPlans__3d_fullres"
REGIONS = {"whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}
CHANNELS = ("t1", "t1ce", "t2", "flair")
BRATS_TO_NNUNET = np.array([0, 2, 1, 0, 3], np.uint8)


def write_cross_validation(
    base: Path,
    *,
    names: list[str],
    folds: int = 2,
    shape=(32, 36, 28),
    spacing: float = 6.0,
    noise: float = 0.25,
    probabilities: bool = False,
    model: str = MODEL,
) -> Path:
    """Write a data set, its results, and logs; returns the trained model's folder.

    The environment variables of nnU-Net need not be set: the folders lie side by side.
    """
    raw, trained = base / "nnUNet_raw" / DATASET, base / "nnUNet_results" / DATASET / model
    for folder in (raw / "imagesTr", raw / "labelsTr", trained):
        folder.mkdir(parents=True, exist_ok=True)
    about = {
        "channel_names": dict(enumerate(("T1", "T1ce", "T2", "FLAIR"))),
        "labels": {"background": 0, **REGIONS},
        "regions_class_order": [1, 2, 3],
        "file_ending": ".nii.gz",
        "numTraining": len(names),
    }
    plan = {"patch_size": [32, 32, 32], "batch_size": 2, "spacing": [spacing] * 3}
    for folder in (raw, trained):
        (folder / "dataset.json").write_text(json.dumps(about))
    plans = {"configurations": {"3d_fullres": plan}}
    (trained / "plans.json").write_text(json.dumps(plans))
    for number, name in enumerate(names):
        validation = trained / f"fold_{number % folds}" / "validation"
        validation.mkdir(parents=True, exist_ok=True)
        patient = make_patient(number, shape=shape, spacing=spacing)
        truth = BRATS_TO_NNUNET[patient.segmentation]
        for channel, sequence in enumerate(CHANNELS):
            save(
                patient.images[sequence], patient.affine, raw / "imagesTr", f"{name}_{channel:04d}"
            )
        save(truth, patient.affine, raw / "labelsTr", name)
        certain = predicted(truth, noise=noise * (1 + number % 5), seed=number)
        labels = np.zeros(truth.shape, np.uint8)
        for probability, label in zip(certain, (1, 2, 3), strict=True):
            labels[probability > 0.5] = label
        save(labels, patient.affine, validation, name)
        if probabilities:
            stored = certain.transpose(0, 3, 2, 1).astype(np.float16)
            np.savez_compressed(validation / f"{name}.npz", probabilities=stored)
    for fold in range(folds):
        write_log(trained / f"fold_{fold}", epochs=12, seed=fold)
    return trained


def predicted(truth: np.ndarray, *, noise: float, seed: int) -> np.ndarray:
    """Probabilities `(3, X, Y, Z)` of nested regions that err at the edges of the true ones."""
    random = gaussian_filter(np.random.default_rng(seed).normal(size=truth.shape), 1.5)
    random *= noise / random.std()
    found = []
    near = gaussian_filter((truth > 0).astype(float), 2)
    for labels in REGIONS.values():
        field = gaussian_filter(np.isin(truth, labels).astype(float), 0.7) + random * near
        found.append(np.clip(np.minimum(field, found[-1] if found else 1), 0, 1))
    return np.array(found)


def save(voxels: np.ndarray, affine: np.ndarray, folder: Path, name: str) -> None:
    nib.save(nib.Nifti1Image(voxels, affine), os.fsdecode(folder / f"{name}.nii.gz"))


def write_log(fold: Path, *, epochs: int, seed: int) -> None:
    """A log in the words of nnU-Net 2.8, and the facts that it keeps of a training."""
    random, now = np.random.default_rng(seed), datetime(2026, 3, 1, 12)
    lines = []
    for epoch in range(epochs):
        falling = -0.9 * (1 - np.exp(-epoch / 4))
        dice = [
            f"np.float32({0.9 * (1 - np.exp(-epoch / 3)) - 0.1 * n + random.normal(0, 0.02):.4f})"
            for n in range(3)
        ]
        for text in (
            "",
            f"Epoch {epoch}",
            f"Current learning rate: {0.01 * (1 - epoch / epochs):.5f}",
            f"train_loss {falling + random.normal(0, 0.02):.4f}",
            f"val_loss {falling * 0.95 + random.normal(0, 0.03):.4f}",
            f"Pseudo dice [{', '.join(dice)}]",
            "Epoch time: 61.05 s",
        ):
            lines.append(f"{now:%Y-%m-%d %H:%M:%S.%f}: {text} ")
        now += timedelta(seconds=61)
    (fold / "training_log_2026_3_1_12_00_00.txt").write_text("\n".join(lines) + "\n")
    debug = {"device": "cuda:0", "gpu_name": "a card", "torch_version": "2.8.0", "num_epochs": "12"}
    (fold / "debug.json").write_text(json.dumps(debug))
