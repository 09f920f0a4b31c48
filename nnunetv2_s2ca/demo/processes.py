"""Run commands of nnU-Net and ours as processes, with log files and progress."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.launcher import end, share_of_cores, start
from nnunetv2_s2ca.core.nnunet import FOLDERS
from nnunetv2_s2ca.core.signals import signals_as_exceptions

STATUS_INTERVAL = 20.0  # seconds
TAIL_LINES = 20
DISK_IS_FULL = 2**20  # free bytes


@dataclass(frozen=True)
class Job:
    """A command, and the file for its output."""

    name: str
    command: tuple[str, ...]
    log: Path


def nnunet_environment(folder: Path, *, threads: int) -> dict[str, str]:
    """This process' environment, with nnU-Net's folders below `folder` and few threads.

    Args:
        folder: Folder for nnUNet_raw, nnUNet_preprocessed and nnUNet_results, which are created.
        threads: PyTorch's threads per process.
    """
    own = share_of_cores(threads) | {
        "nnUNet_def_n_proc": "1",
        "nnUNet_compile": "f",  # compiling takes longer than these trainings
        "PYTHONUNBUFFERED": "1",  # the logs are read while they grow
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait release their core
    }
    for name in FOLDERS:
        (folder / name).mkdir(exist_ok=True)
        own[name] = str(folder / name)
    # Windows does not distinguish capitals in names, and would get some twice
    replaced = {name.lower() for name in own}
    return {**{k: v for k, v in os.environ.items() if k.lower() not in replaced}, **own}


def run_jobs(
    jobs: Sequence[Job],
    *,
    at_once: int,
    environment: Mapping[str, str],
    folder: Path,
    say: Callable[[str], None],
) -> None:
    """Run jobs in parallel; all have ended when this returns or raises.

    SIGTERM and SIGHUP raise here, as Ctrl-C does.

    Args:
        jobs: The jobs, in order of their start.
        at_once: Number of jobs to run at a time.
        environment: Environment of the processes.
        folder: Working directory of the processes.
        say: Receives a line of progress from time to time.

    Raises:
        UserError: A job failed; names its log and quotes the end.
    """
    waiting = deque(jobs)
    running: dict[Job, subprocess.Popen] = {}
    reported = time.monotonic()
    with signals_as_exceptions():
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    job = waiting.popleft()
                    running[job] = _start(job, environment, folder)
                time.sleep(0.2)
                for job, process in list(running.items()):
                    if process.poll() is not None:
                        del running[job]
                        if process.returncode:
                            raise UserError(_failure(job, process.returncode))
                if running and time.monotonic() - reported > STATUS_INTERVAL:
                    say("; ".join(f"{job.name}: {_status(job.log)}" for job in running))
                    reported = time.monotonic()
        finally:
            for process in running.values():
                end(process)


def _start(job: Job, environment: Mapping[str, str], folder: Path) -> subprocess.Popen:
    with job.log.open("wb") as log:
        return start(
            job.command,
            environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _status(log: Path) -> str:
    """Progress of a job: its epoch if it trains, else its last line."""
    lines = _lines(log)
    for line in reversed(lines):
        if "predicting" in line:
            return "validating"
        if match := re.search(r": (Epoch \d+)$", line):
            return match[1].lower()
    return lines[-1][-70:] if lines else "starting"


def _failure(job: Job, code: int) -> str:
    failed = f"{job.name} failed with exit code {code}."
    if shutil.disk_usage(job.log.parent).free < DISK_IS_FULL:
        failed += " The disk is full."
    tail = "\n".join(f"    {line}" for line in _lines(job.log)[-TAIL_LINES:])
    return (
        f"{failed} Its log, {job.log}, ends with:\n{tail}" if tail else f"{failed} Its log is empty"
    )


def _lines(log: Path) -> list[str]:
    """The lines of a log that are not blank; each state of a progress bar is a line."""
    text = log.read_text(encoding="utf-8", errors="replace")
    return [line.rstrip() for line in text.splitlines() if line.strip()]
