"""Hostile folders, damaged files and signals for `s2ca crossval` and `s2ca predict`."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest

from nnunetv2_s2ca.cli import main
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.lock import output_lock
from nnunetv2_s2ca.jobs.finished import without_prediction
from tests.jobs.conftest import CASES, DATASET, predict
from tests.robustness.processes import start, wait_until_gone
from tests.waiting import MINUTES, wait_for

CROSSVAL = ("crossval", "-d", "43", "-c", "3d_fullres", "-device", "cpu", "-f", "0")
FOLD = {"train": CASES[1:], "val": CASES[:1]}


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


SPLITS = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "train is a string": [FOLD | {"train": "case_1"}],
    "val is a string": [FOLD | {"val": "case_1"}],
    "val holds numbers": [FOLD | {"val": [1, 2]}],
    "val lists a case twice": [FOLD | {"val": ["case_0", "case_0"]}],
    "no val": [{"train": CASES}],
    "nested lists": [[CASES, CASES]],
    "an object": {"0": FOLD},
    "no folds": [],
    "a number": 5,
    "UTF-16": lambda file: file.write_text(json.dumps([FOLD]), encoding="utf-16"),
    "100 000 nested brackets": lambda file: file.write_text("[" * 100_000),
    "a number of 5001 digits": lambda file: file.write_text(f"[{'1' * 5001}]"),
    "nothing": lambda file: file.write_text(""),
}


@pytest.mark.parametrize("splits", SPLITS.values(), ids=SPLITS)
def test_splits_that_cannot_be_used_are_named_before_any_training(nnunet, calls, capsys, splits):
    file = nnunet / "preprocessed" / DATASET / "splits_final.json"
    file.unlink()
    if callable(splits):
        splits(file)
    else:
        file.write_text(json.dumps(splits))
    assert main([*CROSSVAL]) == 1
    assert f"s2ca crossval: error: {file}" in capsys.readouterr().err
    assert not calls()
    assert not (nnunet / "results").exists()


@pytest.mark.parametrize("place", ["results", "results/below"])
def test_results_that_are_a_file_are_named_before_any_training(
    nnunet, calls, capsys, monkeypatch, place
):
    (nnunet / "results").write_text("mine")
    monkeypatch.setenv("nnUNet_results", str(nnunet / place))
    assert main([*CROSSVAL]) == 1
    printed = capsys.readouterr()
    assert printed.err == (
        f"s2ca crossval: error: {nnunet / 'results'} is a file; expected a folder for the output\n"
    )
    assert "interrupted" not in printed.out
    assert not calls()


@pytest.mark.parametrize("content", ["", "{}", '{"labels": {"background": 1}}'])
def test_damaged_dataset_json_is_named_before_any_training(nnunet, calls, capsys, content):
    file = nnunet / "preprocessed" / DATASET / "dataset.json"
    file.write_text(content)
    assert main([*CROSSVAL]) == 1
    assert f"s2ca crossval: error: {file}" in capsys.readouterr().err
    assert not calls()


@pytest.mark.parametrize("name", ["9" * 5000, "00000000043x", "4\n3", "\x1b[2J"])
def test_dataset_that_cannot_be_is_named(nnunet, capsys, name):
    assert main(["crossval", "-d", name, "-c", "3d_fullres", "-device", "cpu"]) == 1
    assert "preprocessed has no datasets for" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["out", "out/below"])
def test_prediction_into_a_file_is_refused_before_any_job(nnunet, images, calls, capsys, place):
    (nnunet / "out").write_text("mine")
    assert predict(nnunet, "-o", str(nnunet / place)) == 1
    printed = capsys.readouterr()
    assert f"{nnunet / 'out'} is a file; expected a folder" in printed.err
    assert "interrupted" not in printed.out
    assert not calls()
    assert (nnunet / "out").read_text() == "mine"


def test_two_predictions_into_one_folder_do_no_work_twice(nnunet, images, calls, capsys):
    with output_lock(nnunet / "out"):
        assert predict(nnunet) == 1
    assert f"{nnunet / 'out'} is already being written, by process" in capsys.readouterr().err
    assert not calls()
    assert predict(nnunet) == 0
    assert len(calls()) == 1


def halve(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-5] ^= 1  # of the checksum
    file.write_bytes(content)


DAMAGES = {
    "0 bytes": lambda file: file.write_bytes(b""),
    "cut in half": halve,
    "a wrong checksum": flip,
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_prediction_is_made_again(nnunet, images, calls, capsys, damage):
    assert predict(nnunet, "--backend", "debug") == 0
    whole = snapshot(nnunet / "out")
    damage(nnunet / "out/case_3.nii.gz")
    capsys.readouterr()
    assert predict(nnunet, "--backend", "debug") == 0
    assert "case_3.nii.gz is empty or damaged; case_3 is predicted again" in capsys.readouterr().out
    assert snapshot(nnunet / "out")["case_3.nii.gz"] == whole["case_3.nii.gz"]
    assert len(calls()) == 2


@pytest.mark.parametrize("name", ["case_1.nii.gz", "case_2.npz"])
def test_damaged_probabilities_and_folders_in_their_place_are_no_predictions(
    nnunet, images, capsys, name
):
    options = ("--backend", "debug", "--", "--save_probabilities")
    assert predict(nnunet, *options) == 0
    halve(nnunet / "out" / name)
    assert predict(nnunet, *options) == 0
    (nnunet / "out" / name).unlink()
    (nnunet / "out" / name).mkdir()
    assert predict(nnunet, *options) == 1
    assert f"{name} is a folder; expected a file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["case_1.nii.gz", "case_1.nii", "case_1.npz"])
def test_other_file_with_the_name_of_a_prediction_is_refused_and_kept(
    nnunet, images, calls, capsys, name
):
    (nnunet / "out").mkdir()
    (nnunet / "out" / name).write_text("mine" * 1000)
    assert predict(nnunet, "--", "--save_probabilities") == 1
    assert f"{name} has the name of a prediction, but is not one" in capsys.readouterr().err
    assert (nnunet / "out" / name).read_text() == "mine" * 1000
    assert not calls()


@pytest.mark.parametrize(
    ("ending", "affine"),
    [(".nii.gz", "eye"), (".nii", "eye"), (".nii.gz", "zero"), (".nii", "nan")],
)
def test_whole_prediction_is_kept_whatever_is_in_it(tmp_path, ending, affine):
    matrix = {"eye": np.eye(4), "zero": np.zeros((4, 4)), "nan": np.full((4, 4), np.nan)}[affine]
    header = nib.Nifti1Header()
    header.set_data_shape((9, 9, 9))
    header.set_sform(matrix, 1)
    file = tmp_path / f"a{ending}"
    nib.save(nib.Nifti1Image(np.zeros((9, 9, 9), np.int16), None, header), file)
    content = file.read_bytes()
    assert not without_prediction(["a"], tmp_path, probabilities=False, report=print)
    file.write_bytes(content[:-1])
    assert without_prediction(["a"], tmp_path, probabilities=False, report=print) == ["a"]
    assert not file.exists()


def test_prediction_that_cannot_be_read_is_kept(tmp_path, monkeypatch):
    (tmp_path / "a.nii.gz").write_bytes(b"\x1f\x8bwhole")

    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"a\.nii\.gz cannot be read or removed: Permission denied"):
        without_prediction(["a"], tmp_path, probabilities=False, report=print)
    assert (tmp_path / "a.nii.gz").exists()


def test_prediction_that_nnunet_left_damaged_is_no_success(nnunet, images, capsys):
    (nnunet / "predicted.nii.gz").write_bytes(b"")
    assert predict(nnunet, "--backend", "debug") == 1
    assert "5 cases of" in capsys.readouterr().err


def test_other_files_in_the_output_are_left_alone(nnunet, images):
    (nnunet / "out").mkdir()
    for name in ("case_9.nii.gz", "notes.txt", "case_1.txt"):
        (nnunet / "out" / name).touch()
    assert predict(nnunet, "--backend", "debug") == 0
    assert {"case_9.nii.gz", "notes.txt", "case_1.txt"} <= snapshot(nnunet / "out").keys()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_process_of_a_prediction_survives_its_command(nnunet, images, calls, number):
    model = ("-d", 43, "-c", "3d_fullres", "-device", "cpu")
    folders = ("-i", nnunet / "images", "-o", nnunet / "out")
    process = start("predict", *folders, *model, "--jobs", 2, "--", "--wait")
    wait_for(lambda: len(calls()) == 2 and len(list((nnunet / "out").glob("*.nii.gz"))) == 2)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 8  # submitit's two and nnU-Net's two processes of each job
    process.send_signal(number)
    process.communicate(timeout=MINUTES)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    wait_until_gone(family)
    assert predict(nnunet, "--jobs", "2") == 0
    predicted = (nnunet / "predicted.nii.gz").read_bytes()
    assert all((nnunet / f"out/{case}.nii.gz").read_bytes() == predicted for case in CASES)
    assert not list(nnunet.rglob(".*"))


def test_a_training_ends_with_the_job_that_started_it(nnunet, calls):
    process = start(*CROSSVAL, "-tr", "nnUNetTrainerLong")
    wait_for(calls)
    training = psutil.Process(calls()[0]["pid"])
    family = [training, *training.children(recursive=True)]
    training.parent().kill()
    wait_until_gone(family)
    process.communicate(timeout=MINUTES)
    assert process.returncode == 1


def test_result_of_an_earlier_job_with_the_same_process_id_is_not_taken(nnunet, monkeypatch):
    assert main([*CROSSVAL]) == 0
    (result,) = (nnunet / "results" / DATASET / "s2ca_jobs").glob("*_result.pkl")
    monkeypatch.setattr("submitit.core.utils.JobPaths.result_pickle", property(lambda _: result))
    monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 0)
    assert main([*CROSSVAL, "-f", "1", "-tr", "nnUNetTrainerFailing"]) == 1
