"""nnU-Net's commands and ours as a user types them, and a trainer of two iterations for them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nnunetv2_s2ca.demo.chain import FINGERPRINT

SCRIPTS = Path(sys.executable).parent
TWO_STEPS = "nnUNetTrainerTwoSteps"

_TRAINER = """
from nnunetv2_s2ca.training import {base}


class {name}({base}):
    length_in_epochs = 1

    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 2, 1
"""


def provide_short_trainer(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, base: str = "nnUNetTrainerS2CA"
) -> None:
    """Make `-tr` accept TWO_STEPS, and keep nnU-Net's worker processes few."""
    trainers = folder / "trainers"
    trainers.mkdir()
    (trainers / "two_steps.py").write_text(_TRAINER.format(base=base, name=TWO_STEPS))
    monkeypatch.setenv("nnUNet_extTrainer", str(trainers))
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")


def extract_fingerprint(dataset_id: int) -> None:
    """As the demo does, in place of nnU-Net's own, which takes a minute."""
    run(sys.executable, "-m", FINGERPRINT, dataset_id)


def run(command: str, *arguments: object) -> str:
    """Run a command of this environment; returns what it printed, or shows it if it fails."""
    program = SCRIPTS / command if (SCRIPTS / command).exists() else shutil.which(command)
    result = subprocess.run(
        [str(program), *map(str, arguments)], capture_output=True, text=True, env=dict(os.environ)
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout
