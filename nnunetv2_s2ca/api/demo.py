"""The demo, from synthetic patients to an ensemble's predictions."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from nnunetv2_s2ca.api.logger import report
from nnunetv2_s2ca.demo.chain import run_demo as run_chain
from nnunetv2_s2ca.demo.report import DemoResult
from nnunetv2_s2ca.demo.settings import DemoSettings


def run_demo(output: str | PathLike[str], settings: DemoSettings | None = None) -> DemoResult:
    """Generate patients, convert, plan, train, predict and compare; all below `output`.

    Args:
        output: a new or empty folder, or that of an interrupted demo with these settings, which
            resumes.
        settings: Defaults if None.

    Raises:
        UserError: The folder holds something else, or a step fails.
    """
    return run_chain(Path(output), settings, say=report)
