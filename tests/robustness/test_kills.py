"""The short form of `python -m tests.robustness.kills`."""

from __future__ import annotations

import pytest

from tests.robustness.kills import prepare, report, run_kills


@pytest.mark.slow
def test_killed_commands_end_well_when_given_again(tmp_path):
    commands = [
        command
        for command in prepare(tmp_path)
        if command.name in ("convert --overwrite", "export", "evaluate")
    ]
    trials = run_kills(commands, kills=9, seed=0)
    assert not [trial for trial in trials if trial.faults]
    assert "9 kills, 0 with a fault" in report(trials, seed=0)
