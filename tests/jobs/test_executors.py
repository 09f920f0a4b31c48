"""Jobs that really run by submitit's three executors, SLURM's with stand-ins that run its files."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import psutil
import pytest

from nnunetv2_s2ca.cli import main
from nnunetv2_s2ca.jobs.folds import FoldState, Model, fold_state
from tests.jobs.conftest import DATASET
from tests.waiting import lives, wait_for

# sbatch runs the tasks of the array at once; `scontrol requeue` runs one again once it has ended
COMMANDS = {
    "sbatch": """#!/bin/bash
cp "$1" {folder}/submitted.sh
last=$(grep -oP -- '--array=0-\\K\\d+' "$1")
for task in $(seq 0 ${{last:-0}}); do {folder}/start "$task" "$last" & done > /dev/null 2>&1
echo "Submitted batch job 4711"
""",
    "start": """#!/bin/bash
export SLURM_JOB_ID=$((4711 + $1)) SLURM_JOB_NODELIST=node1 SLURM_NTASKS=1 SLURM_PROCID=0
if [ -n "$2" ]; then export SLURM_ARRAY_JOB_ID=4711 SLURM_ARRAY_TASK_ID=$1; fi
exec bash {folder}/submitted.sh
""",
    "srun": """#!/bin/bash
while [[ "$1" == -* ]]; do
    case "$1" in
        --output) output=$2; shift 2 ;;
        --error) error=$2; shift 2 ;;
        *) shift ;;
    esac
done
ids="s/%A/$SLURM_ARRAY_JOB_ID/; s/%a/$SLURM_ARRAY_TASK_ID/; s/%j/$SLURM_JOB_ID/; s/%t/0/"
exec "$@" >> "$(sed "$ids" <<< "$output")" 2>> "$(sed "$ids" <<< "$error")"
""",
    "scontrol": """#!/bin/bash
[ "$1 $2" = "requeue 4711" ] || exit 1
(while kill -0 $PPID; do sleep 0.1; done; {folder}/start 0 "") > /dev/null 2>&1 &
""",
    "sacct": "#!/bin/bash\necho 'JobID|State|NodeList'\n",
}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A cluster of one node: SLURM's commands, first on the path."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    for name, text in COMMANDS.items():
        (folder / name).write_text(text.format(folder=folder))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def crossval(*options: str) -> int:
    return main(["crossval", "-d", "43", "-c", "3d_fullres", "-device", "cpu", *options])


@pytest.mark.parametrize("backend", ["slurm", "local", "debug"])
def test_each_executor_runs_the_same_jobs(nnunet, cluster, calls, capsys, backend):
    assert crossval("-f", "0", "1", "--backend", backend) == 0
    model = Model(DATASET, "3d_fullres", "nnUNetTrainerS2CA")
    for fold in (0, 1):
        wait_for(lambda fold=fold: fold_state(model.fold(fold)) is FoldState.FINISHED)
    model_options = ["-tr", "nnUNetTrainerS2CA", "-p", "nnUNetPlans", "-device", "cpu"]
    assert sorted(call["arguments"] for call in calls()) == [
        [DATASET, "3d_fullres", fold, *model_options, "--npz"] for fold in "01"
    ]
    logs = re.findall(r"log (/.*)", capsys.readouterr().out)
    assert len(logs) == (0 if backend == "debug" else 2)
    assert all(f"nnUNetv2_train {DATASET}" in Path(log).read_text() for log in logs)
    assert crossval("-f", "0", "1", "--backend", backend) == 0
    assert capsys.readouterr().out.count("already finished") == 2
    assert len(calls()) == 2


def test_a_job_that_slurm_warns_of_its_limit_is_queued_again_and_goes_on(nnunet, cluster, calls):
    trainer = "nnUNetTrainerLong"
    assert crossval("-f", "0", "--backend", "slurm", "-tr", trainer) == 0
    wait_for(calls)
    training = psutil.Process(calls()[0]["pid"])
    training.parent().send_signal(signal.SIGUSR2)
    model = Model(DATASET, "3d_fullres", trainer)
    wait_for(lambda: fold_state(model.fold(0)) is FoldState.FINISHED)
    assert [call["arguments"][-1] for call in calls()] == ["--npz", "--c"]
    assert not lives(training.pid)
