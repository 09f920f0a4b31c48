"""The demo's pieces on tiny inputs."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict

import nibabel as nib
import numpy as np
import pytest

from nnunetv2_s2ca import cli
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.launcher import command_line
from nnunetv2_s2ca.demo.chain import run_demo
from nnunetv2_s2ca.demo.picture import draw_predictions
from nnunetv2_s2ca.demo.processes import (
    Job,
    nnunet_environment,
    run_jobs,
)
from nnunetv2_s2ca.demo.report import DemoResult, scores_table
from nnunetv2_s2ca.demo.scores import score_case, score_folder
from nnunetv2_s2ca.demo.settings import DemoSettings
from nnunetv2_s2ca.synthetic.brats import write_brats2019
from tests.perfect_predictions import write_perfect_predictions
from tests.waiting import MINUTES, lives, wait_for


@pytest.fixture(scope="module")
def brats(tmp_path_factory):
    folder = tmp_path_factory.mktemp("brats")
    write_brats2019(folder, patients=2, shape=(30, 34, 30), spacing=6.0)
    return folder


@pytest.fixture
def perfect_predictions(brats, tmp_path):
    folder = tmp_path / "predictions"
    write_perfect_predictions(brats, folder)
    return folder


def python(program):
    return (sys.executable, "-c", program)


def run(jobs, tmp_path, *, at_once=1, environment=None):
    said = []
    environment = environment or dict(os.environ)
    run_jobs(jobs, at_once=at_once, environment=environment, folder=tmp_path, say=said.append)
    return said


# ---- scores and picture


def test_dice_of_regions_by_hand():
    truth = np.array([0, 1, 2, 4, 4, 0, 0, 0])
    prediction = np.array([0, 2, 1, 3, 2, 1, 0, 0])
    scores = score_case(prediction, truth)
    assert scores["WT"] == pytest.approx(2 * 4 / (4 + 5))
    assert scores["TC"] == pytest.approx(2 * 3 / (3 + 3))
    assert scores["ET"] == pytest.approx(2 * 1 / (2 + 1))


def test_region_absent_from_both_counts_one_and_from_one_nought():
    truth = np.array([0, 1, 2])
    assert score_case(np.array([0, 2, 1]), truth)["ET"] == 1
    assert score_case(np.array([0, 3, 1]), truth)["ET"] == 0


def test_perfect_predictions_score_one(perfect_predictions, brats):
    assert score_folder(perfect_predictions, brats) == {"WT": 1, "TC": 1, "ET": 1}


def test_swapped_labels_show_in_the_scores(perfect_predictions, brats):
    for path in perfect_predictions.iterdir():
        image = nib.load(path)
        swapped = np.array([0, 2, 1, 3], np.uint8)[np.asarray(image.dataobj)]
        nib.save(nib.Nifti1Image(swapped, image.affine), path)
    scores = score_folder(perfect_predictions, brats)
    assert scores["WT"] == 1
    assert scores["TC"] < 0.8


def test_picture_is_drawn_without_a_screen(perfect_predictions, brats, tmp_path):
    draw_predictions(perfect_predictions, brats, tmp_path / "slices.png")
    assert (tmp_path / "slices.png").read_bytes().startswith(b"\x89PNG")


def test_table_has_a_row_for_each_fold_and_the_ensemble(tmp_path):
    scores = {"WT": 0.91234, "TC": 0.8, "ET": 0.7}
    processed = {"WT": 0.95, "TC": 0.8, "ET": 0.9}
    result = DemoResult({0: scores, 3: scores}, scores, processed, tmp_path, tmp_path, tmp_path)
    table = scores_table(result).splitlines()
    assert len(table) == 2 + 2 + 2
    assert "fold 3" in table[3]
    assert "0.912" in table[4]
    assert "| 0.950 | 0.800 | 0.900 |" in table[5]


def test_low_dice_is_an_error(tmp_path):
    scores, processed = {"WT": 0.7, "TC": 0.9, "ET": 0.9}, {"WT": 0.79, "TC": 0.9, "ET": 0.9}
    result = DemoResult({0: scores}, scores, processed, tmp_path, tmp_path, tmp_path)
    result.check({"WT": 0.79})
    with pytest.raises(UserError, match=r"WT 0\.790 \(at least 0\.8\)"):
        result.check({"WT": 0.8})


# ---- settings and folder


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patients": 4}, "4 patients"),
        ({"held_out": 0}, "held out"),
        ({"folds": ()}, "folds"),
        ({"folds": (0, 5)}, "5"),
        ({"folds": (0, 0)}, r"\(0, 0\).*each once"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        DemoSettings(**settings)


def test_folder_that_holds_other_things_is_refused_and_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert cli.main(["demo", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_demo_of_other_settings_is_refused(tmp_path):
    state = {"settings": {"patients": 5}, "done": []}
    (tmp_path / "demo_state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match="other settings"):
        run_demo(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"settings": {}}'])
def test_damaged_state_is_named_with_what_to_do(tmp_path, content):
    (tmp_path / "demo_state.json").write_text(content)
    with pytest.raises(UserError, match=r"demo_state\.json is damaged.*delete"):
        run_demo(tmp_path)


@pytest.mark.parametrize("output", ["file/demo", "x" * 300])
def test_impossible_folder_is_named_with_what_to_do(tmp_path, capsys, output):
    (tmp_path / "file").touch()
    assert cli.main(["demo", str(tmp_path / output)]) == 1
    error = capsys.readouterr().err
    assert str(tmp_path / output) in error
    assert "name a folder that you may write to" in error


@pytest.mark.parametrize("state", [[], ["demo_state.json"]])
def test_folder_that_cannot_be_written_to_is_named(tmp_path, monkeypatch, state):
    for name in state:
        settings = json.loads(json.dumps(asdict(DemoSettings())))
        (tmp_path / name).write_text(json.dumps({"settings": settings, "done": []}))

    def refuse(path, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.write_text", refuse)
    with pytest.raises(UserError, match=r"demo_state\.json cannot be written: Permission denied"):
        run_demo(tmp_path)


# ---- processes


def test_environment_leads_nnunet_below_the_folder_and_spares_the_parents(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", "/the/users/own")
    environment = nnunet_environment(tmp_path, threads=1)
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        assert environment[name] == str(tmp_path / name)
    assert os.environ["nnUNet_raw"] == "/the/users/own"  # noqa: SIM112 (nnU-Net's name)


def test_output_goes_to_the_log(tmp_path):
    run([Job("greet", python("print('hello')"), tmp_path / "log")], tmp_path)
    assert (tmp_path / "log").read_text().strip() == "hello"


def test_failure_names_job_code_and_log_and_quotes_its_end(tmp_path):
    program = "print('\\n'.join(f'line {i}' for i in range(100))); raise SystemExit(3)"
    with pytest.raises(UserError) as error:
        run([Job("fold 2", python(program), tmp_path / "log")], tmp_path)
    message = str(error.value)
    assert "fold 2 failed with exit code 3" in message
    assert str(tmp_path / "log") in message
    assert "line 99" in message
    assert "line 50" not in message


SLEEPER_WITH_CHILD = (
    "import subprocess, sys, time, pathlib\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'])\n"
    "pathlib.Path('child').write_text(str(child.pid))\n"
    "time.sleep(3600)\n"
)


def child_runs(folder):
    return lives(int((folder / "child").read_text()))


def test_failure_ends_the_other_jobs_and_their_children(tmp_path):
    failing = (
        "import time, pathlib\n"
        "while not (pathlib.Path('child').exists() and pathlib.Path('child').read_text()):\n"
        "    time.sleep(0.1)\n"
        "raise SystemExit(1)\n"
    )
    jobs = [
        Job("sleeper", python(SLEEPER_WITH_CHILD), tmp_path / "sleeper.log"),
        Job("failing", python(failing), tmp_path / "failing.log"),
    ]
    with pytest.raises(UserError, match="failing"):
        run(jobs, tmp_path, at_once=2)
    wait_for(lambda: not child_runs(tmp_path))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without a signal")
def test_termination_ends_the_jobs_and_their_children(tmp_path):
    program = (
        "import os, sys, pathlib\n"
        "from nnunetv2_s2ca.demo.processes import Job, run_jobs\n"
        f"command = (sys.executable, '-c', {SLEEPER_WITH_CHILD!r})\n"
        "job = Job('sleeper', command, pathlib.Path('log'))\n"
        "run_jobs([job], at_once=1, environment=os.environ, folder=pathlib.Path(), say=print)\n"
    )
    process = subprocess.Popen(python(program), cwd=tmp_path)
    child = tmp_path / "child"
    wait_for(lambda: process.poll() is not None or (child.exists() and child.read_text()))
    assert process.poll() is None
    process.terminate()
    assert process.wait(MINUTES) == 128 + signal.SIGTERM
    wait_for(lambda: not child_runs(tmp_path))


def test_no_more_jobs_at_once_than_asked(tmp_path):
    program = (
        "import pathlib, sys, time, os\n"
        "mine = pathlib.Path(f'running_{os.getpid()}'); mine.touch()\n"
        "time.sleep(0.3)\n"
        "print(len(list(pathlib.Path('.').glob('running_*'))))\n"
        "mine.unlink()\n"
    )
    jobs = [Job(str(i), python(program), tmp_path / f"{i}.log") for i in range(5)]
    run(jobs, tmp_path, at_once=2)
    assert max(int((tmp_path / f"{i}.log").read_text()) for i in range(5)) <= 2


def test_status_tells_the_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr("nnunetv2_s2ca.demo.processes.STATUS_INTERVAL", 0.1)
    program = (
        "import pathlib, time\n"
        "print('2026-01-01 10:00:00.1: Epoch 7', flush=True)\n"
        "print('2026-01-01 10:00:00.2: Current learning rate: 0.001', flush=True)\n"
        "while not pathlib.Path('said').exists():\n"
        "    time.sleep(0.1)\n"
    )

    def say(line):
        if line == "fold 1: epoch 7":
            (tmp_path / "said").touch()

    job = Job("fold 1", python(program), tmp_path / "log")
    run_jobs([job], at_once=1, environment=dict(os.environ), folder=tmp_path, say=say)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["nnUNetv2_plan_and_preprocess", "nnUNetv2_train", "nnUNetv2_predict"]
)
def test_nnunets_commands_start_by_this_interpreter(tmp_path, name):
    job = Job(name, command_line(name, "-h"), tmp_path / "log")
    run([job], tmp_path, environment=nnunet_environment(tmp_path, threads=1))
    assert "usage" in (tmp_path / "log").read_text()


def test_our_own_command_starts_by_this_interpreter(tmp_path):
    run([Job("help", command_line("s2ca", "-h"), tmp_path / "log")], tmp_path)
    assert "demo" in (tmp_path / "log").read_text()
