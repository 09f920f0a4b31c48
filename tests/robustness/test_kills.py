"""The short form of `python -m tests.robustness.kills`."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_killed_commands_end_well_when_given_again(tmp_path):
    report = tmp_path / "report.md"
    only = ("convert --overwrite", "evaluate", "report", "model pack --overwrite", "segment -i")
    # a process of its own, since copies of one with threads may hang
    program = (sys.executable, "-m", "tests.robustness.kills", "--kills", "15")
    done = subprocess.run(
        [*program, "--only", *only, "--output", report], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "15 kills, 0 with a fault" in report.read_text()
