"""`s2ca crossval` on this machine: what is run, resumed, skipped and reported."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import psutil
import pytest
import submitit

from nnunetv2_s2ca.cli import main
from nnunetv2_s2ca.errors import UserError
from nnunetv2_s2ca.jobs.backends import LocalBackend
from nnunetv2_s2ca.jobs.training import (
    FoldState,
    Model,
    TrainFold,
    ensure_splits,
    find_dataset,
    fold_state,
)
from tests.jobs.conftest import DATASET


def crossval(*options: str) -> int:
    return main(["crossval", "-d", "43", "-c", "3d_fullres", "-device", "cpu", *options])


def folds_of(calls) -> list[str]:
    return sorted(call["arguments"][2] for call in calls)


def wait_for(condition, seconds: float = 20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ([], FoldState.NEW),
        (["debug.json", "training_log.txt"], FoldState.NEW),
        (["checkpoint_best.pth"], FoldState.STARTED),
        (["checkpoint_latest.pth", "checkpoint_best.pth"], FoldState.STARTED),
        (["checkpoint_final.pth"], FoldState.TRAINED),
        (["checkpoint_final.pth", "validation/case.nii.gz"], FoldState.TRAINED),
        (["checkpoint_final.pth", "validation/summary.json"], FoldState.FINISHED),
        (["checkpoint_latest.pth", "validation/summary.json"], FoldState.STARTED),
    ],
)
def test_state_of_a_fold_follows_from_its_files(tmp_path, files, state):
    (tmp_path / "validation").mkdir()
    for name in files:
        (tmp_path / name).touch()
    assert fold_state(tmp_path) is state


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
    assert crossval("-f", "0", "1", "--parallel", "2", "-tr", "nnUNetTrainerSlow") == 0
    first, second = calls()
    assert abs(first["start"] - second["start"]) < 1
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

    model = Model(DATASET, "3d_fullres", "nnUNetTrainerSlow")
    outcome = cross_validate([model], LocalBackend(gpus=(2, 5)), device="cuda", folds=[0, 1])
    assert not outcome.failed
    assert sorted(call["gpu"] for call in calls()) == ["2", "5"]


def test_the_debug_backend_runs_in_this_process_one_after_another(nnunet, calls, capsys):
    assert crossval("-f", "0", "1", "--backend", "debug") == 0
    assert folds_of(calls()) == ["0", "1"]
    assert crossval("-f", "1", "--backend", "debug", "-tr", "nnUNetTrainerFailing") == 1


def test_a_fold_killed_half_way_is_resumed_by_the_next_call(nnunet, calls):
    outcome = {}
    thread = threading.Thread(
        target=lambda: outcome.update(code=crossval("-f", "0", "-tr", "nnUNetTrainerLong"))
    )
    thread.start()
    wait_for(calls)
    os.kill(calls()[0]["pid"], signal.SIGKILL)
    thread.join(30)
    assert outcome["code"] == 1
    assert crossval("-f", "0", "-tr", "nnUNetTrainerLong") == 0
    assert [call["arguments"][-1] for call in calls()] == ["--npz", "--c"]


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
        find_dataset("Dataset999_None")


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
