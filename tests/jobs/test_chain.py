"""The whole chain with nnU-Net itself: five folds, ensembles, post-processing, a verdict."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).parents[2]
DATASET = "Dataset777_Tiny"
TRAINERS = ("TinyDefault", "TinyS2CA")

# Two epochs of one iteration and a checkpoint after each
TRAINER = """
import torch
from nnunetv2_s2ca.training import nnUNetTrainerS2CA_S


class TinyS2CA(nnUNetTrainerS2CA_S):
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
PREPARE = """
from pathlib import Path
from tests.training import tiny_dataset

tiny_dataset.make_dataset(Path({folder!r}), shape=(32, 32, 32))
tiny_dataset.preprocess(Path({folder!r}), "Dataset777_Tiny")
"""


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A preprocessed dataset of five cases, the two trainers, and a function that runs commands."""
    folder = tmp_path_factory.mktemp("chain")
    environment = os.environ | {
        "nnUNet_extTrainer": str(folder / "trainers"),
        "nnUNet_n_proc_DA": "0",
        "nnUNet_def_n_proc": "1",
        "nnUNet_compile": "f",
        "OMP_NUM_THREADS": "1",
    }
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "trainers"):
        (folder / name).mkdir()
        environment.setdefault(name, "")
        if name.startswith("nnUNet"):
            environment[name] = str(folder / name)
    (folder / "trainers/TinyS2CA.py").write_text(TRAINER)

    def run(*command: str, **options) -> str:
        done = subprocess.run(
            command,
            env=environment,
            cwd=REPOSITORY,
            text=True,
            capture_output=True,
            check=False,
            **options,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    run.environment = environment
    run(sys.executable, "-c", PREPARE.format(folder=str(folder)))
    return folder, run


def s2ca(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "nnunetv2_s2ca.cli", *map(str, arguments)]


def nnunet(entry: str, *arguments: object) -> list[str]:
    """One of nnU-Net's commands, by its entry point `module:function`."""
    module, function = entry.split(":")
    program = f"from {module} import {function} as run; run()"
    return [sys.executable, "-c", program, *map(str, arguments)]


CROSSVAL = ("crossval", "-d", 777, "-c", "3d_fullres", "-device", "cpu", "--parallel", 2, "-tr")


@pytest.mark.slow
def test_from_folds_to_a_verdict(chain):
    folder, run = chain
    results = folder / "nnUNet_results" / DATASET
    models = {name: results / f"{name}__nnUNetPlans__3d_fullres" for name in TRAINERS}

    # a cross-validation, killed with all its processes once a fold has a checkpoint
    five_folds = s2ca(*CROSSVAL, "TinyS2CA")
    killed = _kill_half_way(run, five_folds, models["TinyS2CA"])
    assert not (killed / "checkpoint_final.pth").exists()

    # the same command again finishes it, the killed fold from its checkpoint
    printed = run(*five_folds)
    assert printed.count(": finished") == 5
    fold = killed.name.replace("_", " ")
    (started,) = [line for line in printed.splitlines() if f"{fold}: started" in line]
    assert "--npz --c" in Path(started.split("log ")[1]).read_text()

    for number in range(5):
        assert list((models["TinyS2CA"] / f"fold_{number}/validation").glob("*.npz"))

    # a second time nothing is left to do
    stamps = _stamps(results)
    printed = run(*five_folds)
    assert printed.count("already finished") == 5
    assert "started" not in printed
    assert _stamps(results) == stamps

    # nnU-Net's choice among two models and their ensemble; the second is a copy, to save time
    shutil.copytree(models["TinyS2CA"], models["TinyDefault"])
    best = "nnunetv2.evaluation.find_best_configuration:find_best_configuration_entry_point"
    run(*nnunet(best, 777, "-c", "3d_fullres", "-tr", *TRAINERS, "-np", 1))
    information = json.loads((results / "inference_information.json").read_text())
    assert any(
        all(name in ensemble for name in TRAINERS) for ensemble in information["all_results"]
    )

    # the five folds on images, then the predictions of two models together
    images = folder / "nnUNet_raw" / DATASET / "imagesTr"
    predicted, other = folder / "predicted", folder / "other"
    options = ("-d", 777, "-c", "3d_fullres", "-tr", "TinyS2CA", "-device", "cpu")
    more = ("--", "--disable_tta", "--save_probabilities", "-npp", 1, "-nps", 1)
    run(*s2ca("predict", "-i", images, "-o", predicted, *options, *more))
    shutil.copytree(predicted, other)
    ensemble = "nnunetv2.ensembling.ensemble:entry_point_ensemble_folders"
    run(*nnunet(ensemble, "-i", predicted, other, "-o", folder / "ensemble", "-np", 1))

    # post-processing fitted on the folds, applied to the ensemble, and the verdict
    fitted = folder / "postprocessing.json"
    run(*s2ca("postprocess", "--fit", "-m", models["TinyS2CA"], "-o", fitted, "--processes", 1))
    scores = json.loads(fitted.read_text())["scores"]
    assert scores["after"]["mean"]["dice"] >= scores["before"]["mean"]["dice"]
    cleaned = folder / "cleaned"
    options = ("-o", cleaned, "--apply", fitted, "--processes", 1)
    run(*s2ca("postprocess", "-i", folder / "ensemble", *options))
    truth = folder / "nnUNet_raw" / DATASET / "labelsTr"
    printed = run(*s2ca("evaluate", "-ref", truth, "-pred", cleaned, "--processes", 1))
    assert "5 cases. Rules classic" in printed
    with (cleaned / "s2ca_evaluation/metrics.csv").open() as lines:
        assert len(list(csv.DictReader(lines))) == 15


def _stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.pth")}


def _kill_half_way(run, command: list[str], model: Path) -> Path:
    """Start a cross-validation and kill it once a fold has a checkpoint; that fold's folder."""
    process = subprocess.Popen(
        command,
        env=run.environment,
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 180
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
