"""The `s2ca` command as a process that tests stop, kill and watch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

from tests.waiting import wait_for

COMMAND = (sys.executable, "-c", "import sys; from nnunetv2_s2ca.cli import main; sys.exit(main())")


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


def run(*arguments: object, **environment: str) -> tuple[int, str]:
    """Exit code and all that the command printed."""
    process = start(*arguments, **environment)
    output, errors = process.communicate()
    return process.returncode, output + errors


def workers_of(process: subprocess.Popen[str], *, at_least: int = 1) -> list[psutil.Process]:
    """The worker processes of a command, once there are so many."""

    def enough() -> list[psutil.Process]:
        assert process.poll() is None, process.communicate()
        # not multiprocessing's helper
        found = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if "spawn_main" in " ".join(_command_line(child))
        ]
        return found if len(found) >= at_least else []

    return wait_for(enough)


def wait_until_gone(processes: list[psutil.Process]) -> None:
    wait_for(lambda: not any(_lives(process) for process in processes))


def hidden_files(folder: Path) -> list[Path]:
    return list(folder.rglob(".*"))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
