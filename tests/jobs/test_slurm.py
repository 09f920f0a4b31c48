"""The SLURM code path, with stand-ins for SLURM's commands."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from nnunetv2_s2ca.cli import main
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.jobs.backends import parse_gigabytes, parse_minutes
from tests.jobs.conftest import DATASET

SBATCH = """#!/bin/bash
cp "$1" "{folder}/submitted_$(ls {folder} | wc -l).sh"
echo "Submitted batch job 4711"
"""
SACCT = """#!/bin/bash
echo "JobID|State|NodeList"
for task in 0 1 2 3 4; do echo "4711_$task|$(cat {folder}/state)|node1"; done
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """sbatch, srun and sacct first on the path; the submitted files land in the folder."""
    binaries, folder = tmp_path / "bin", tmp_path / "submitted"
    binaries.mkdir()
    folder.mkdir()
    (folder / "state").write_text("PENDING")
    for name, text in (("sbatch", SBATCH), ("sacct", SACCT), ("srun", "#!/bin/bash\nexit 0\n")):
        path = binaries / name
        path.write_text(text.format(folder=folder))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(binaries), prepend=os.pathsep)
    return folder


def crossval(*options: str) -> int:
    return main(["crossval", "-d", "43", "-c", "3d_fullres", "--backend", "slurm", *options])


def submitted(slurm) -> list[str]:
    return [path.read_text() for path in sorted(slurm.glob("*.sh"))]


def test_sbatch_file_asks_for_what_the_options_say(nnunet, slurm, capsys):
    options = ["--slurm-partition", "gpu", "--time", "1-12:00:00", "--mem", "64G", "--cpus", "8"]
    assert crossval(*options, "--slurm", "account=lab", "qos=long") == 0
    (script,) = submitted(slurm)
    lines = script.splitlines()
    for option in (
        "--partition=gpu",
        "--time=2160",
        "--mem=64GB",
        "--cpus-per-task=8",
        "--gpus-per-node=1",
        "--account=lab",
        "--qos=long",
        "--array=0-4%5",
        "--open-mode=append",
    ):
        assert f"#SBATCH {option}" in lines
    # SLURM warns the job before the limit, so that submitit can queue it again
    assert any(line.startswith("#SBATCH --signal=USR2@") for line in lines)
    assert any(line.startswith("srun") and "submitit.core._submit" in line for line in lines)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert "job 4711_0" in capsys.readouterr().out


def test_the_submitted_job_trains_its_fold_and_can_be_queued_again(nnunet, slurm):
    from submitit.core.utils import DelayedSubmission

    assert crossval("-f", "3") == 0
    (pickle,) = (nnunet / "results" / DATASET / "s2ca_jobs").glob("4711*submitted.pkl")
    delayed = DelayedSubmission.load(pickle)
    assert delayed.function.command()[:4] == ["nnUNetv2_train", DATASET, "3d_fullres", "3"]
    again = delayed.function.checkpoint()
    assert again.function.command() == delayed.function.command()
    assert delayed._timeout_countdown >= 20


def test_no_gpu_is_asked_for_on_a_cpu(nnunet, slurm):
    assert crossval("-device", "cpu") == 0
    assert "gpus" not in submitted(slurm)[0]


def test_what_is_queued_is_not_submitted_twice(nnunet, slurm, capsys):
    assert crossval() == 0
    assert crossval() == 0
    assert len(submitted(slurm)) == 1
    assert "SLURM has it already" in capsys.readouterr().out


def test_what_slurm_says_nothing_of_is_not_submitted_twice(nnunet, slurm, capsys):
    assert crossval() == 0
    (slurm.parent / "bin/sacct").write_text("#!/bin/bash\n")
    assert crossval() == 0
    assert len(submitted(slurm)) == 1
    (line, *_) = [line for line in capsys.readouterr().out.splitlines() if "remove" in line]
    for record in (nnunet / "results" / DATASET / "s2ca_jobs").glob("*.job"):
        record.unlink()
    assert line.split("remove ")[1].endswith("fold_0.job")
    assert crossval() == 0
    assert len(submitted(slurm)) == 2


def test_what_slurm_lost_is_submitted_again(nnunet, slurm):
    assert crossval() == 0
    (slurm / "state").write_text("FAILED")
    import submitit

    submitit.SlurmJob.watcher.clear()
    assert crossval() == 0
    assert len(submitted(slurm)) == 2


def test_finished_folds_are_not_submitted(nnunet, slurm, calls):
    assert main(["crossval", "-d", "43", "-c", "3d_fullres", "-device", "cpu", "-f", "0", "1"]) == 0
    assert crossval() == 0
    assert "#SBATCH --array=0-2%3" in submitted(slurm)[0].splitlines()


def test_no_more_jobs_run_at_a_time_than_asked_for(nnunet, slurm):
    assert crossval("--parallel", "2") == 0
    assert "#SBATCH --array=0-4%2" in submitted(slurm)[0].splitlines()


@pytest.fixture
def predict(nnunet):
    """A function that predicts six cases in three parts on SLURM, into the folder out."""
    images = nnunet / "images"
    images.mkdir()
    for case in range(6):
        (images / f"case_{case}_0000.nii.gz").touch()
    options = ["-i", str(images), "-o", str(nnunet / "out"), "-d", "43", "-c", "3d_fullres"]
    return lambda: main(["predict", *options, "--backend", "slurm", "--jobs", "3"])


def test_prediction_is_submitted_in_parts(slurm, predict):
    assert predict() == 0
    assert "#SBATCH --array=0-2%3" in submitted(slurm)[0].splitlines()


def test_parts_of_a_prediction_that_are_queued_are_not_submitted_twice(slurm, predict, capsys):
    assert predict() == 0
    assert predict() == 0
    assert len(submitted(slurm)) == 1
    assert capsys.readouterr().out.count("SLURM has it already") == 3


def test_a_whole_prediction_is_not_submitted(nnunet, slurm, predict, capsys):
    (nnunet / "out").mkdir()
    for case in range(6):
        shutil.copy(nnunet / "predicted.nii.gz", nnunet / f"out/case_{case}.nii.gz")
    assert predict() == 0
    assert not submitted(slurm)
    assert "6 cases are in" in capsys.readouterr().out


def test_a_refusal_of_sbatch_is_passed_on(nnunet, slurm, capsys):
    sbatch = slurm.parent / "bin/sbatch"
    sbatch.write_text("#!/bin/bash\necho 'invalid partition specified: gpu' >&2; exit 1\n")
    assert crossval() == 1
    error = capsys.readouterr().err
    assert "SLURM refused the jobs: invalid partition specified: gpu" in error
    assert "login node" not in error
    sbatch.write_text("#!/bin/bash\necho 'a riddle'\n")
    assert crossval() == 1
    assert "SLURM refused the jobs" in capsys.readouterr().err


def test_without_sbatch_the_message_says_what_to_do(nnunet, slurm, capsys):
    (slurm.parent / "bin/sbatch").unlink()
    assert crossval() == 1
    assert "--backend local" in capsys.readouterr().err


def test_without_slurm_the_message_says_what_to_do(nnunet, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert crossval() == 1
    assert "--backend local" in capsys.readouterr().err


def test_an_unknown_option_of_sbatch_is_refused(nnunet, slurm, capsys):
    assert crossval("--slurm", "colour=blue") == 1
    assert "colour" in capsys.readouterr().err
    assert crossval("--slurm", "account") == 1
    assert "KEY=VALUE" in capsys.readouterr().err
    assert not submitted(slurm)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("90:30", 91),
        ("12:00:00", 720),
        ("0:30:10", 31),
        ("2-00", 2880),
        ("1-12:30", 2190),
        ("1-12:00:00", 2160),
    ],
)
def test_time_is_read_as_slurm_reads_it(text, minutes):
    assert parse_minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", "-5", "2-"])
def test_another_form_of_time_is_refused(text):
    with pytest.raises(UserError, match="time"):
        parse_minutes(text)


@pytest.mark.parametrize(
    ("text", "gigabytes"), [("32", 32), ("32G", 32), ("1.5GB", 1.5), ("512M", 0.5), ("1t", 1024)]
)
def test_memory_is_read_as_slurm_writes_it(text, gigabytes):
    assert parse_gigabytes(text) == gigabytes


@pytest.mark.parametrize("text", ["", "much", "0G", "-3G", "3K"])
def test_another_form_of_memory_is_refused(text):
    with pytest.raises(UserError, match="mem"):
        parse_gigabytes(text)
