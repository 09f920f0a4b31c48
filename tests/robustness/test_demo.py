"""A demo whose state was tampered with, whose disk is full, or whose folder is gone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest

from nnunetv2_s2ca.cli import main
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.demo.chain import run_demo
from nnunetv2_s2ca.demo.processes import Job, run_jobs
from nnunetv2_s2ca.demo.scores import score_folder
from nnunetv2_s2ca.demo.settings import DemoSettings
from tests.robustness.limits import files_of_at_most
from tests.robustness.processes import wait_until_gone
from tests.waiting import wait_for

STEPS = ["make_patients", "convert", "plan", "train", "predict", "postprocess"]
SMALL = DemoSettings(patients=5, held_out=1, shape=(30, 34, 30), spacing=6.0)


def write_state(output: Path, done: object) -> None:
    content = {"settings": asdict(DemoSettings()), "done": done}
    (output / "demo_state.json").write_text(json.dumps(content))


DAMAGED = {
    "done is a number": 3,
    "done is a string": "make_patients",
    "done is an object": {"make_patients": True},
    "done is null": None,
    "done holds numbers": [1, 2],
    "an unknown step": ["make_patients", "celebrate"],
    "a step before its turn": ["train"],
    "a step twice": ["make_patients", "make_patients"],
    "UTF-16": lambda state: state.write_text("{}", encoding="utf-16"),
    "100 000 nested brackets": lambda state: state.write_text('{"a":' * 100_000),
    "a number of 5001 digits": lambda state: state.write_text(f'{{"done": {"1" * 5001}}}'),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_damaged_state_is_named_and_left_alone(tmp_path, capsys, damage):
    state = tmp_path / "demo_state.json"
    if callable(damage):
        damage(state)
    else:
        write_state(tmp_path, damage)
    before = state.read_bytes()
    assert main(["demo", str(tmp_path)]) == 1
    assert f"s2ca demo: error: {state} is damaged" in capsys.readouterr().err
    assert state.read_bytes() == before


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["a pipe", "a folder"])
def test_state_that_is_no_file_is_named(tmp_path, capsys, make):
    make(tmp_path / "demo_state.json")
    assert main(["demo", str(tmp_path)]) == 1
    assert "demo_state.json is a" in capsys.readouterr().err


MADE = [
    *("BraTS2019_held_out", "nnUNet_raw/Dataset044", "splits_final.json", "fold_1"),
    *("predictions", "postprocessed"),
]


@pytest.mark.parametrize("number", range(len(STEPS)))
def test_step_that_is_said_to_be_done_but_left_nothing_is_named(tmp_path, capsys, number):
    write_state(tmp_path, STEPS)
    for place in (
        "BraTS2019_held_out",
        "nnUNet_raw/Dataset044_BraTS2019/dataset.json",
        "nnUNet_preprocessed/Dataset043_BraTS2019/splits_final.json",
        "nnUNet_results/Dataset043_BraTS2019/nnUNetTrainerS2CA_demo__nnUNetPlans__3d_fullres/"
        "fold_1/validation",
        "predictions",
    )[:number]:
        (tmp_path / place).mkdir(parents=True)
    assert main(["demo", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert f"demo_state.json says that the step {STEPS[number]} is done, but " in error
    assert MADE[number] in error
    assert "is missing; delete" in error


def test_predictions_that_are_gone_or_damaged_are_named(tmp_path):
    with pytest.raises(UserError, match="predictions holds no predictions"):
        score_folder(tmp_path / "predictions", tmp_path)
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), tmp_path / "case.nii.gz")
    with pytest.raises(UserError, match="holds no patient case"):
        score_folder(tmp_path, tmp_path)
    (tmp_path / "case.nii.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"case\.nii\.gz cannot be read"):
        score_folder(tmp_path, tmp_path)


@pytest.mark.parametrize("size", [10, 2000], ids=["for the state", "for a patient"])
def test_disk_without_room_is_named(tmp_path, size):
    with files_of_at_most(size), pytest.raises(UserError, match=r"demo.* \(?File too large"):
        run_demo(tmp_path / "demo", SMALL, say=lambda line: None)


def test_job_that_fails_since_the_disk_is_full_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    job = Job("convert", (sys.executable, "-c", "raise SystemExit(1)"), tmp_path / "log")
    with pytest.raises(UserError, match=r"exit code 1\. The disk is full\. Its log is empty"):
        run_jobs([job], at_once=1, environment=os.environ, folder=tmp_path, say=print)


def test_current_folder_that_is_gone_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    assert main(["demo", "output"]) == 1
    assert "output cannot be" in capsys.readouterr().err


def test_trainings_of_a_killed_demo_end(nnunet, calls, tmp_path):
    program = (
        "import os, pathlib\n"
        "from nnunetv2_s2ca.core.launcher import command_line\n"
        "from nnunetv2_s2ca.demo.processes import Job, run_jobs\n"
        "options = ('Dataset043_Demo', '3d_fullres', 0, '-tr', 'nnUNetTrainerLong', '-p', 'p')\n"
        "job = Job('fold', command_line('nnUNetv2_train', *options), pathlib.Path('log'))\n"
        "run_jobs([job], at_once=1, environment=os.environ, folder=pathlib.Path(), say=print)\n"
    )
    process = subprocess.Popen((sys.executable, "-c", program), cwd=tmp_path)
    wait_for(calls)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    wait_until_gone(family)
