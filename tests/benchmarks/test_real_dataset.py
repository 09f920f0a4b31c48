"""`--dataset`: the paper's tables from five folds of each trainer, with stand-in trainings."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from benchmarks.accuracy import real_dataset
from benchmarks.accuracy.__main__ import main
from benchmarks.accuracy.published import ABLATION, COMPARISON, SIZES, TRAINERS
from nnunetv2_s2ca.evaluation.metrics_table import read_metrics
from nnunetv2_s2ca.jobs.backends import SlurmBackend
from nnunetv2_s2ca.jobs.folds import Model
from nnunetv2_s2ca.training import TRAINERS as OURS
from tests.jobs.conftest import CASES, DATASET


def save(labels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels.astype(np.uint8), np.eye(4)), path)


def prediction_of(truth, trainer):
    """The truth, with as many voxels of whole tumour missing as the trainer's number."""
    labels = truth.copy()
    labels[tuple(np.argwhere(labels == 1)[: 4 * TRAINERS.index(trainer)].T)] = 0
    return labels


@pytest.fixture
def trained(nnunet):
    """A dataset of which one fold of S2CA-Net is left to train; the truth of its cases."""
    truth = {}
    for number, case in enumerate(CASES):
        labels = np.zeros((10, 10, 10), int)
        labels[1:9, 1:9, 1:9], labels[2:6, 2:6, 2:6], labels[3:5, 3:5, 3 : 5 + number % 2] = 1, 2, 3
        truth[case] = labels
        save(labels, nnunet / f"preprocessed/{DATASET}/gt_segmentations/{case}.nii.gz")
    for trainer in TRAINERS:
        for number, case in enumerate(CASES):
            predicted = prediction_of(truth[case], trainer)
            save(predicted, nnunet / trainer / f"{case}.nii.gz")
            fold = Model(DATASET, "3d_fullres", trainer).fold(number)
            if trainer == "nnUNetTrainerS2CA" and number == 4:
                continue
            save(predicted, fold / f"validation/{case}.nii.gz")
            (fold / f"validation/{case}.npz").touch()
            (fold / "checkpoint_final.pth").touch()
            summary = {"metric_per_case": [{"prediction_file": f"{case}.nii.gz"}]}
            (fold / "validation/summary.json").write_text(json.dumps(summary))
    return truth


def reproduce(folder, *options):
    arguments = ["--dataset", "43", "-device", "cpu", "--backend", "debug"]
    return main([*arguments, "--results", str(folder / "report"), *options])


def lines(folder):
    text = (folder / f"report/{DATASET}/README.md").read_text()
    return {line.split("|")[1].strip(): line for line in text.splitlines() if "|" in line}


def dice(truth, prediction, labels):
    first, second = np.isin(truth, labels), np.isin(prediction, labels)
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_every_trainer_of_the_tables_exists():
    assert set(TRAINERS) <= {"nnUNetTrainer", *OURS}


def test_published_means_are_those_of_their_regions():
    for row in (*COMPARISON, *ABLATION):
        if row.mean is not None:
            assert np.mean(row.dice) == pytest.approx(row.mean, abs=0.011), row
    assert [row.mean for row in SIZES] == sorted(row.mean for row in SIZES)


def test_what_is_left_is_trained_and_stands_beside_the_published_numbers(trained, nnunet, calls):
    assert reproduce(nnunet) == 0
    assert [call["arguments"][:3] for call in calls()] == [[DATASET, "3d_fullres", "4"]]
    found = lines(nnunet)
    assert found["TransBTS"].split("|")[2:6] == [" 78.73 ", " 90.09 ", " 81.73 ", " 83.52 "]
    assert found["S2CA-Net-L"].split("|")[5] == " 86.12 "
    wanted = np.mean(
        [dice(t, prediction_of(t, "nnUNetTrainerS2CA_B"), [1, 2, 3]) for t in trained.values()]
    )
    assert wanted < 1
    assert found["B"].split("|")[2:5] == [" 72.42 ", " 88.68 ", " 79.46 "]
    assert found["B"].split("|")[7].startswith(f" {100 * wanted:.2f} (")
    # a table that `s2ca compare` reads
    table = read_metrics(nnunet / f"report/{DATASET}/nnUNetTrainerS2CA_B")
    assert {case for case, _ in table.values} == set(CASES)


def test_models_that_lack_folds_are_listed_as_such(trained, nnunet, monkeypatch):
    monkeypatch.setattr(real_dataset.RealDataset, "train", lambda *_, **__: [])
    shutil.rmtree(Model(DATASET, "3d_fullres", "nnUNetTrainerS2CA_L").fold(2))
    assert reproduce(nnunet) == 0
    assert "trained: 4 of 5 folds" in lines(nnunet)["S2CA-Net-L"]
    assert "not trained" in lines(nnunet)["`nnUNetTrainer`"]


def test_failed_fold_is_the_exit_code(trained, nnunet, monkeypatch):
    monkeypatch.setattr(real_dataset.RealDataset, "train", lambda *_, **__: ["fold 4"])
    assert reproduce(nnunet) == 1


def test_folds_can_train_on_slurm(trained, nnunet, monkeypatch):
    asked = []

    def train(self, backend, *, device):
        asked.append((backend, device))
        return []

    monkeypatch.setattr(real_dataset.RealDataset, "train", train)
    arguments = ["--dataset", DATASET, "--results", str(nnunet), "--backend", "slurm"]
    assert main([*arguments, "--slurm-partition", "gpu"]) == 0
    ((backend, device),) = asked
    assert isinstance(backend, SlurmBackend)
    assert (backend.partition, device) == ("gpu", "cuda")


def test_dataset_without_the_papers_regions_is_refused(nnunet, capsys):
    labels = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3]}
    path = nnunet / f"preprocessed/{DATASET}/dataset.json"
    path.write_text(json.dumps({"labels": labels}))
    assert reproduce(nnunet) == 1
    assert "the paper's tables need ET, too" in capsys.readouterr().err
