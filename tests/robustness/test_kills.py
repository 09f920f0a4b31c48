"""The short form of `python -m tests.robustness.kills`."""

from __future__ import annotations

import pytest

from tests.robustness.killed_commands import on_images
from tests.robustness.kills import report, run_kills


@pytest.mark.slow
def test_killed_commands_end_well_when_given_again(tmp_path):
    names = ("convert --overwrite", "export", "evaluate")
    commands = [command for command in on_images(tmp_path) if command.name in names]
    trials = run_kills(commands, kills=9, seed=0)
    assert not [trial for trial in trials if trial.faults]
    assert "9 kills, 0 with a fault" in report(trials, seed=0)
