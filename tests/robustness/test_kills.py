"""The short form of `python -m tests.robustness.kills`."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_killed_commands_end_well_when_given_again(tmp_path):
    report = tmp_path / "report.md"
    writers = ("convert --overwrite", "export", "evaluate", "report", "model pack --overwrite")
    # a process of its own, since copies of one with threads may hang
    program = (sys.executable, "-m", "tests.robustness.kills", "--kills", "18", "--only")
    done = subprocess.run(
        [*program, *writers, "segment -i", "--output", report], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "18 kills, 0 with a fault" in report.read_text()
