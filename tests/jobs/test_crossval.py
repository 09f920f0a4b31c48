"""`s2ca crossval` on this machine: what is run, resumed, skipped and reported."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import threading
from contextlib import suppress

import psutil
import pytest
import submitit
import torch

from nnunetv2_s2ca.brats.editions import EDITIONS
from nnunetv2_s2ca.cli import main
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.lock import lock_fold, training_in
from nnunetv2_s2ca.core.nnunet import PREPROCESSED, find_dataset
from nnunetv2_s2ca.dataset_conversion.convert import convert
from nnunetv2_s2ca.jobs.backends import LocalBackend, visible_gpus
from nnunetv2_s2ca.jobs.folds import FoldState, Model, fold_state
from nnunetv2_s2ca.jobs.splits import ensure_splits
from nnunetv2_s2ca.jobs.training import TrainFold
from tests.dataset_conversion.synthetic_cases import write_case
from tests.hangup import hangup_not_ignored
from tests.jobs.conftest import DATASET
from tests.waiting import MINUTES, wait_for


def crossval(*options: str) -> int:
    return main(["crossval", "-d", "43", "-c", "3d_fullres", "-device", "cpu", *options])


def folds_of(calls) -> list[str]:
    return sorted(call["arguments"][2] for call in calls)


LONG = "nnUNetTrainerLong"
FINAL, SUMMARY = "checkpoint_final.pth", "validation/summary.json"
SCORED = {"metric_per_case": [{"prediction_file": "/elsewhere/fold_0/validation/a.b.nii.gz"}]}


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ([], FoldState.NEW),
        (["debug.json", "training_log.txt"], FoldState.NEW),
        (["checkpoint_best.pth"], FoldState.STARTED),
        (["checkpoint_latest.pth", "checkpoint_best.pth"], FoldState.STARTED),
        ([FINAL], FoldState.TRAINED),
        ([FINAL, "validation/a.b.nii.gz", "validation/a.b.npz"], FoldState.TRAINED),
        ([FINAL, "validation/a.b.nii.gz", SUMMARY], FoldState.TRAINED),
        ([FINAL, "validation/a.npz", SUMMARY], FoldState.TRAINED),
        ([FINAL, "validation/a.b.npz", SUMMARY], FoldState.FINISHED),
        (["checkpoint_latest.pth", "validation/a.b.npz", SUMMARY], FoldState.STARTED),
    ],
)
def test_state_of_a_fold_follows_from_its_files(tmp_path, files, state):
    (tmp_path / "validation").mkdir()
    for name in files:
        (tmp_path / name).write_text(json.dumps(SCORED) if name == SUMMARY else "")
    assert fold_state(tmp_path) is state


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"metric_per_case": [{}]}'])
def test_a_fold_with_a_damaged_summary_is_validated_again(tmp_path, text):
    (tmp_path / "validation").mkdir()
    (tmp_path / FINAL).touch()
    (tmp_path / SUMMARY).write_text(text)
    assert fold_state(tmp_path) is FoldState.TRAINED


def test_all_folds_are_trained_and_validated_with_probabilities(nnunet, calls, capsys):
    assert crossval() == 0
    assert folds_of(calls()) == ["0", "1", "2", "3", "4"]
    for call in calls():
        assert call["arguments"][:2] == [DATASET, "3d_fullres"]
        assert "--npz" in call["arguments"]
        assert "--c" not in call["arguments"]
        assert call["arguments"][call["arguments"].index("-tr") + 1] == "nnUNetTrainerS2CA"
        assert call["arguments"][call["arguments"].index("-device") + 1] == "cpu"
    printed = capsys.readouterr().out
    table = printed[printed.index("trainer") :].splitlines()
    assert table[0].split() == ["trainer", "fold", "WT", "TC", "ET", "mean"]
    assert table[2].split()[1:] == ["0", "0.5000", "0.5000", "0.5000", "0.5000"]
    assert table[7].split()[1:] == ["mean", "0.7000", "0.7000", "0.7000", "0.7000"]


def test_a_page_is_written_when_asked(nnunet, calls, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert crossval("-f", "0", "--report", str(page)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {page}"
    assert "nnUNetTrainerS2CA" in page.read_text(encoding="utf-8")


def test_a_second_call_does_nothing(nnunet, calls, capsys):
    assert crossval("-f", "0", "1") == 0
    assert crossval("-f", "0", "1") == 0
    assert len(calls()) == 2
    assert "already finished" in capsys.readouterr().out


def test_what_was_interrupted_is_resumed_and_what_lacks_validation_is_validated(nnunet, calls):
    model = Model(DATASET, "3d_fullres", "nnUNetTrainerS2CA")
    for fold, name in ((0, "checkpoint_latest.pth"), (1, "checkpoint_final.pth")):
        model.fold(fold).mkdir(parents=True)
        (model.fold(fold) / name).touch()
    assert crossval("-f", "0", "1", "2") == 0
    options = {call["arguments"][2]: call["arguments"][-1] for call in calls()}
    assert options == {"0": "--c", "1": "--val", "2": "--npz"}


def test_several_trainers_are_one_command(nnunet, calls, capsys):
    assert crossval("-f", "0", "1", "-tr", "nnUNetTrainer", "nnUNetTrainerS2CA") == 0
    trainers = {(call["arguments"][4], call["arguments"][2]) for call in calls()}
    assert trainers == {(t, f) for t in ("nnUNetTrainer", "nnUNetTrainerS2CA") for f in "01"}
    printed = capsys.readouterr().out
    assert printed.count(" mean  ") >= 2


def test_a_failed_fold_is_named_with_its_log_and_the_others_go_on(nnunet, calls, capsys):
    assert crossval("-f", "0", "1", "2", "-tr", "nnUNetTrainerFailing") == 1
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if ": failed, see" in line]
    assert "fold 1" in line
    assert folds_of(calls()) == ["0", "1", "2"]
    assert fold_state(Model(DATASET, "3d_fullres", "nnUNetTrainerFailing").fold(2)) is (
        FoldState.FINISHED
    )
    log = line.split("see ")[1].split(" and ")[0]
    assert "nnUNetv2_train" in open(log).read()  # noqa: PTH123, SIM115


def test_parallel_jobs_overlap_and_share_the_cores(nnunet, calls, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert crossval("-f", "0", "1", "--parallel", "2", "-tr", "nnUNetTrainerMeeting") == 0
    first, second = calls()
    # nnU-Net asks multiprocessing for the cores of the machine and gives torch as many threads
    assert [call["cores"] for call in (first, second)] == [4, 4]
    assert [call["threads"] for call in (first, second)] == ["4", "4"]
    assert [call["workers"] for call in (first, second)] == ["4", "4"]


def test_a_single_job_has_all_cores_and_no_gpu_unless_given(nnunet, calls):
    assert crossval("-f", "0") == 0
    (call,) = calls()
    assert call["cores"] == os.cpu_count()
    assert call["gpu"] == ""


def test_each_job_sees_the_gpu_of_its_slot(nnunet, calls):
    from nnunetv2_s2ca.jobs.training import cross_validate

    model = Model(DATASET, "3d_fullres", "nnUNetTrainerMeeting")
    backend = LocalBackend(gpus=("2", "GPU-5a"))
    outcome = cross_validate([model], backend, device="cuda", folds=[0, 1])
    assert not outcome.failed
    assert sorted(call["gpu"] for call in calls()) == ["2", "GPU-5a"]


@pytest.mark.parametrize(
    ("outer", "chosen", "names"),
    [
        (None, None, ("0", "1", "2")),
        (None, [2, 0], ("2", "0")),
        ("7,5,3", None, ("7", "5", "3")),
        ("7,5,3", [2, 0], ("3", "7")),
        ("GPU-a, GPU-b,MIG-c", [1, 2], ("GPU-b", "MIG-c")),
    ],
)
def test_gpus_are_those_that_the_user_or_the_cluster_left_visible(
    monkeypatch, outer, chosen, names
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if outer:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", outer)
    assert visible_gpus(chosen) == names


@pytest.mark.parametrize("backend", ["local", "debug"])
def test_a_job_sees_the_gpu_that_was_asked_for(nnunet, calls, monkeypatch, backend):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,6")
    options = ("-device", "cuda", "--gpus", "1", "--backend", backend)
    assert crossval("-f", "0", *options) == 0
    assert [call["gpu"] for call in calls()] == ["6"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,6"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["-device", "cuda", "--gpus", "0", "99"], "99"),
        (["-device", "cuda", "--gpus", "-1"], "-1"),
        (["-device", "cpu", "--gpus", "0"], "CUDA"),
        (["-device", "cuda", "--backend", "slurm", "--gpus", "0"], "this machine"),
    ],
)
def test_gpus_that_no_job_could_use_are_refused(nnunet, calls, monkeypatch, capsys, options, word):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert crossval(*options) == 1
    assert word in capsys.readouterr().err
    assert not calls()


def test_the_debug_backend_runs_in_this_process_and_says_what_went_wrong(nnunet, calls, capsys):
    assert crossval("-f", "0", "1", "2", "--backend", "debug", "-tr", "nnUNetTrainerFailing") == 1
    assert [call["arguments"][2] for call in calls()] == ["0", "1", "2"]
    printed = capsys.readouterr().out
    assert "exit status 1" in printed
    assert "log" not in printed


def test_what_is_named_twice_is_trained_once(nnunet, calls):
    trainers = ("nnUNetTrainer", "nnUNetTrainer")
    assert crossval("-f", "1", "1", "--parallel", "2", "-tr", *trainers) == 0
    assert folds_of(calls()) == ["1"]


@pytest.mark.parametrize(
    "options",
    [
        ["-d", ""],
        ["-d", "/data/Dataset043_Demo"],
        ["-c", ""],
        ["-p", ""],
        ["-tr", ""],
        ["-tr", "nnUNetTrainer", "../other"],
        ["--parallel", "-2"],
        ["--parallel", "0"],
        ["--cpus", "-4"],
        ["--cpus", "many"],
    ],
)
def test_impossible_names_and_numbers_are_refused(nnunet, calls, capsys, options):
    with pytest.raises(SystemExit):
        crossval(*options)
    assert f"argument {options[0]}: expected a" in capsys.readouterr().err
    assert not calls()


@pytest.mark.parametrize("text", ["{oops", "[]"])
def test_a_damaged_split_is_named(nnunet, calls, capsys, text):
    (nnunet / "preprocessed" / DATASET / "splits_final.json").write_text(text)
    assert crossval() == 1
    assert "splits_final.json" in capsys.readouterr().err
    assert not calls()


@pytest.mark.parametrize(
    "text", ["{oops", "{}", "[]", '{"mean": {"3": {}}, "foreground_mean": {"Dice": 1}}']
)
def test_a_damaged_summary_of_another_fold_is_named(nnunet, calls, capsys, text):
    summary = Model(DATASET, "3d_fullres", "nnUNetTrainerS2CA").fold(3) / SUMMARY
    summary.parent.mkdir(parents=True)
    summary.write_text(text)
    assert crossval("-f", "0", "--backend", "debug") == 1
    assert str(summary) in capsys.readouterr().err


def test_a_copy_of_a_fold_beside_the_folds_is_left_out_of_the_table(nnunet, capsys):
    assert crossval("-f", "0", "--backend", "debug") == 0
    fold = Model(DATASET, "3d_fullres", "nnUNetTrainerS2CA").fold(0)
    shutil.copytree(fold, fold.with_name("fold_0_old"))
    capsys.readouterr()
    assert crossval("-f", "0") == 0
    assert capsys.readouterr().out.count("nnUNetTrainerS2CA     0  0.5000") == 1


def test_a_fold_killed_half_way_is_resumed_by_the_next_call(nnunet, calls):
    outcome = {}
    thread = threading.Thread(
        target=lambda: outcome.update(code=crossval("-f", "0", "-tr", "nnUNetTrainerLong"))
    )
    thread.start()
    wait_for(calls)
    os.kill(calls()[0]["pid"], signal.SIGKILL)
    thread.join()
    assert outcome["code"] == 1
    assert crossval("-f", "0", "-tr", "nnUNetTrainerLong") == 0
    assert [call["arguments"][-1] for call in calls()] == ["--npz", "--c"]


@pytest.fixture
def start_crossval(nnunet, calls):
    """Start the command in a session of its own, as in a terminal; returns once it trains."""
    started = []

    def start(*launcher: str, **popen) -> subprocess.Popen:
        program = (*launcher, sys.executable, "-m", "nnunetv2_s2ca.cli", "crossval")
        options = ("-d", "43", "-c", "3d_fullres", "-device", "cpu", "-f", "0", "-tr", LONG)
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
        with hangup_not_ignored():
            process = subprocess.Popen(
                [*program, *options], **(streams | popen), start_new_session=True
            )
        started.append(process.pid)
        wait_for(calls)
        return process

    yield start
    for group in (*started, *(call["pid"] for call in calls())):
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def is_training(call: dict) -> bool:
    """Whether any process of the training's group lives."""
    for process in psutil.process_iter(["status"]):
        with suppress(OSError):  # it has just ended
            mine = os.getpgid(process.pid) == call["pid"]
            if mine and process.info["status"] != psutil.STATUS_ZOMBIE:
                return True
    return False


@pytest.mark.parametrize(
    ("number", "send"),
    [
        (signal.SIGINT, os.killpg),  # as Ctrl-C
        (signal.SIGTERM, os.kill),
        (signal.SIGHUP, os.kill),
    ],
)
def test_a_signal_that_ends_the_command_ends_its_trainings(start_crossval, calls, number, send):
    process = start_crossval()
    send(process.pid, number)
    printed, _ = process.communicate(timeout=MINUTES)
    assert process.returncode == 128 + number
    assert "interrupted" in printed
    wait_for(lambda: not is_training(calls()[0]))
    assert crossval("-f", "0", "-tr", LONG) == 0
    assert [call["arguments"][-1] for call in calls()] == ["--npz", "--c"]


def test_a_terminal_that_closes_ends_the_trainings(start_crossval, calls):
    ours, theirs = pty.openpty()
    process = start_crossval(
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    os.close(ours)
    process.wait(MINUTES)
    wait_for(lambda: not is_training(calls()[0]))


def test_a_hangup_leaves_the_command_alone_under_nohup(start_crossval, calls):
    process = start_crossval("nohup")
    os.killpg(process.pid, signal.SIGHUP)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=MINUTES)
    assert process.returncode == 128 + signal.SIGTERM


def test_what_outlives_a_killed_command_is_not_trained_a_second_time(start_crossval, calls, capsys):
    start_crossval().kill()
    (training,) = calls()
    assert crossval("-f", "0", "-tr", LONG) == 1
    assert len(calls()) == 1
    printed = capsys.readouterr().out
    assert f"fold_0 is already being trained, by process {training['pid']} on" in printed
    # as the message says
    command = printed.split("to end it there: ")[1].split(")")[0]
    assert is_training(training)
    subprocess.run(command, shell=True, check=True)
    wait_for(lambda: not training_in(Model(DATASET, "3d_fullres", LONG).fold(0)))
    assert crossval("-f", "0", "-tr", LONG) == 0
    assert [call["arguments"][-1] for call in calls()] == ["--npz", "--c"]


def test_a_job_does_not_train_a_fold_beside_another(nnunet, calls):
    model = Model(DATASET, "3d_fullres", "nnUNetTrainerS2CA")
    job = TrainFold(name="fold", cores=None, model=model, fold=0, device="cpu")
    with lock_fold(model.fold(0)), pytest.raises(UserError, match="already being trained"):
        job()
    assert not calls()
    job()
    assert len(calls()) == 1


def test_a_file_system_without_locks_is_no_obstacle(nnunet, calls, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert crossval("-f", "0", "--backend", "debug") == 0
    assert len(calls()) == 1
    assert "cannot be locked (No locks available)" in capsys.readouterr().err


def test_on_a_time_out_submitit_queues_the_job_again_and_it_goes_on(nnunet, calls):
    model = Model(DATASET, "3d_fullres", "nnUNetTrainerLong")
    job = TrainFold(name="long", cores=None, model=model, fold=0, device="cpu")
    executor = submitit.AutoExecutor(folder=nnunet / "logs", cluster="local")
    executor.update_parameters(timeout_min=60)
    submitted = executor.submit(job)
    wait_for(calls)
    # the signal that SLURM, or submitit's local controller, sends some time before the limit
    (task,) = psutil.Process(int(submitted.job_id)).children()
    task.send_signal(signal.SIGUSR2)
    assert submitted.exception() is None
    assert [call["arguments"][-1] for call in calls()] == ["--npz", "--c"]
    assert fold_state(model.fold(0)) is FoldState.FINISHED
    with pytest.raises(ProcessLookupError):  # the first training did not go on beside the second
        os.kill(calls()[0]["pid"], 0)


def test_folds_outside_the_split_are_refused(nnunet, calls, capsys):
    assert crossval("-f", "5") == 1
    assert "0 to 4" in capsys.readouterr().err
    assert not calls()


def test_missing_settings_are_named(nnunet, monkeypatch, capsys):
    monkeypatch.delenv("nnUNet_results")
    assert crossval() == 1
    assert "nnUNet_results" in capsys.readouterr().err


def test_an_unknown_dataset_is_named(nnunet, capsys):
    assert main(["crossval", "-d", "44", "-c", "3d_fullres", "-device", "cpu"]) == 1
    assert "44" in capsys.readouterr().err
    with pytest.raises(UserError, match="Dataset999"):
        find_dataset("Dataset999_None", PREPROCESSED)


def test_a_missing_split_is_the_one_that_nnunet_would_make(nnunet):
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    folder = nnunet / "preprocessed" / DATASET
    (folder / "splits_final.json").unlink()
    model = Model(DATASET, "3d_fullres", "nnUNetTrainerS2CA")
    with pytest.raises(UserError, match="nnUNetv2_plan_and_preprocess"):
        ensure_splits(model)
    (folder / "nnUNetPlans.json").write_text("{}")
    (folder / "gt_segmentations").mkdir()
    cases = [f"c{number}" for number in range(12)]
    for case in cases:
        (folder / f"gt_segmentations/{case}.nii.gz").touch()
    content = json.loads((folder / "dataset.json").read_text()) | {"file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content))
    assert ensure_splits(model) == 5
    expected = generate_crossval_split(sorted(cases), seed=12345, n_splits=5)
    assert json.loads((folder / "splits_final.json").read_text()) == [
        {part: [str(case) for case in cases] for part, cases in fold.items()} for fold in expected
    ]


def test_folds_of_a_converted_dataset_keep_patients_apart(nnunet_folders):
    edition = EDITIONS["brats2023-gli"]
    source = nnunet_folders / "source"
    for patient in range(6):
        for session in range(3):
            name = f"BraTS-GLI-{patient:05d}-{session:03d}"
            write_case(source / name, edition, name)
    dataset = convert(edition, source, processes=1).folder
    folder = nnunet_folders / "nnUNet_preprocessed" / dataset.name
    shutil.copytree(dataset / "labelsTr", folder / "gt_segmentations")
    shutil.copy(dataset / "dataset.json", folder)
    (folder / "nnUNetPlans.json").write_text("{}")
    assert ensure_splits(Model(dataset.name, "3d_fullres", "nnUNetTrainerS2CA")) == 5
    for fold in json.loads((folder / "splits_final.json").read_text()):
        training, validation = ({name[:15] for name in fold[part]} for part in ("train", "val"))
        assert not training & validation
