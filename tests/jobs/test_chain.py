"""The whole chain with nnU-Net itself: five folds, ensembles, post-processing, a verdict."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from nnunetv2_s2ca.synthetic.brats import write_brats2019
from tests.commands import extract_fingerprint, run
from tests.waiting import MINUTES

DATASET = "Dataset043_BraTS2019"
TRAINERS = ("TinyDefault", "TinyS2CA")
MODEL = ("-d", 43, "-c", "3d_fullres", "-device", "cpu")

# Two epochs of one iteration of a small network, and a checkpoint after each
TRAINER = """
import torch
from nnunetv2_s2ca.training import nnUNetTrainerS2CA_S


class TinyS2CA(nnUNetTrainerS2CA_S):
    network_arguments = {
        **nnUNetTrainerS2CA_S.network_arguments,
        "encoder_branches": ((32, 2), (48, 1)),
        "decoder_branches": ((32, 1), (48, 1)),
    }

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 2
        self.num_iterations_per_epoch = 1
        self.num_val_iterations_per_epoch = 1
        self.save_every = 1

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):
        *most, _ = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        self.inference_allowed_mirroring_axes = None  # eight times as fast a validation
        return *most, None
"""


@pytest.fixture
def patients(nnunet_folders, monkeypatch):
    """Five of the demo's patients, preprocessed and split, and the trainer; nnU-Net's folders."""
    trainers = nnunet_folders / "trainers"
    trainers.mkdir()
    (trainers / "TinyS2CA.py").write_text(TRAINER)
    monkeypatch.setenv("nnUNet_extTrainer", str(trainers))
    monkeypatch.setenv("nnUNet_compile", "f")
    write_brats2019(nnunet_folders / "BraTS", patients=5, shape=(32, 32, 32), spacing=5.0)
    run("s2ca", "convert", "brats2019", nnunet_folders / "BraTS")
    extract_fingerprint(43)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_n_proc_DA", "1")  # planning takes this for its number of threads
        run("nnUNetv2_plan_and_preprocess", "-d", 43, "-c", "3d_fullres", "-np", 1)
    run("s2ca", "splits", "-d", 43)
    return nnunet_folders


@pytest.mark.slow
def test_from_folds_to_a_verdict(patients):
    results = patients / "nnUNet_results" / DATASET
    models = {name: results / f"{name}__nnUNetPlans__3d_fullres" for name in TRAINERS}

    # a cross-validation, killed with all its processes once a fold has a checkpoint
    five_folds = ("crossval", *MODEL, "--parallel", 2, "-tr", "TinyS2CA")
    killed = _kill_half_way(five_folds, models["TinyS2CA"])
    assert not (killed / "checkpoint_final.pth").exists()

    # the same command again finishes it, the killed fold from its checkpoint
    printed = run("s2ca", *five_folds)
    assert printed.count(": finished") == 5
    fold = killed.name.replace("_", " ")
    (started,) = [line for line in printed.splitlines() if f"{fold}: started" in line]
    assert "--npz --c" in Path(started.split("log ")[1]).read_text()

    # a second time nothing is left to do
    stamps = _stamps(results)
    printed = run("s2ca", *five_folds)
    assert printed.count("already finished") == 5
    assert "started" not in printed
    assert _stamps(results) == stamps

    # nnU-Net's choice among two models and their ensemble; the second is a copy, to save time
    shutil.copytree(models["TinyS2CA"], models["TinyDefault"])
    best = "nnUNetv2_find_best_configuration"
    run(best, 43, "-c", "3d_fullres", "-tr", *TRAINERS, "-np", 1)
    information = json.loads((results / "inference_information.json").read_text())
    assert any(
        all(name in ensemble for name in TRAINERS) for ensemble in information["all_results"]
    )

    # the five folds on images, then the predictions of two models together
    raw = patients / "nnUNet_raw" / DATASET
    predicted, other, together = (patients / name for name in ("predicted", "other", "ensemble"))
    more = ("--", "--disable_tta", "--save_probabilities", "-npp", 1, "-nps", 1)
    folders = ("-i", raw / "imagesTr", "-o", predicted)
    run("s2ca", "predict", *folders, *MODEL, "-tr", "TinyS2CA", *more)
    shutil.copytree(predicted, other)
    run("nnUNetv2_ensemble", "-i", predicted, other, "-o", together, "-np", 1)

    # post-processing fitted on the folds, applied to the ensemble, and the verdict
    fitted, cleaned = patients / "postprocessing.json", patients / "cleaned"
    postprocess, one = ("s2ca", "postprocess"), ("-np", 1)
    run(*postprocess, "--fit", "-m", models["TinyS2CA"], "-o", fitted, *one)
    scores = json.loads(fitted.read_text())["scores"]
    assert scores["after"]["mean"]["dice"] >= scores["before"]["mean"]["dice"]
    run(*postprocess, "-i", together, "-o", cleaned, "--apply", fitted, *one)
    printed = run("s2ca", "evaluate", "--ref", raw / "labelsTr", "--pred", cleaned, *one)
    assert "5 cases. Rules classic" in printed
    with (cleaned / "s2ca_evaluation/metrics.csv").open() as lines:
        assert len(list(csv.DictReader(lines))) == 15


def _stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.pth")}


def _kill_half_way(command: tuple[object, ...], model: Path) -> Path:
    """Start a cross-validation and kill it once a fold has a checkpoint; that fold's folder."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nnunetv2_s2ca.cli", *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + MINUTES
    try:
        while not (begun := sorted(model.glob("fold_*/checkpoint_*.pth"))):
            assert time.monotonic() < end, "no checkpoint in time"
            assert process.poll() is None, "the cross-validation ended"
            time.sleep(0.02)
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        for member in (psutil.Process(process.pid), *family):
            member.send_signal(signal.SIGKILL)
        process.wait()
        psutil.wait_procs(family)
    return begun[0].parent
