"""The `s2ca` command as a process that tests stop, kill and watch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.hangup import hangup_not_ignored
from tests.waiting import MINUTES, wait_for

PROGRAM = "import sys; from nnunetv2_s2ca.cli import main; sys.exit(main())"
COMMAND = (sys.executable, "-c", PROGRAM)

_FREEZING = """
import os, signal, sys
from contextlib import contextmanager
from nnunetv2_s2ca.cli import main
from nnunetv2_s2ca.core import workers

started = workers._started_workers

@contextmanager
def stopping(*arguments):
    workers._started_workers = started
    with started(*arguments) as running:
        os.kill(os.getpid(), signal.SIGSTOP)
        yield running

workers._started_workers = stopping
sys.exit(main())
"""


def start(*arguments: object, program: str = PROGRAM, **environment: str) -> subprocess.Popen[str]:
    with hangup_not_ignored():
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        )


def run(*arguments: object, **environment: str) -> tuple[int, str]:
    """Exit code and all that the command printed."""
    process = start(*arguments, **environment)
    output, errors = process.communicate(timeout=MINUTES)
    return process.returncode, output + errors


def start_frozen(*arguments: object) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A command that has stopped itself, and its workers, which have no case yet.

    SIGCONT lets it go on. A command that is stopped from outside may have ended by then.
    """
    process = start(*arguments, program=_FREEZING)
    leader = psutil.Process(process.pid)

    def has_stopped() -> bool:
        assert process.poll() is None, process.communicate(timeout=MINUTES)
        return leader.status() == psutil.STATUS_STOPPED

    wait_for(has_stopped)
    workers = [child for child in leader.children() if "spawn_main" in " ".join(child.cmdline())]
    return process, workers  # not multiprocessing's helper


def let_go_on_without_a_worker(
    process: subprocess.Popen[str], workers: list[psutil.Process]
) -> tuple[int, str]:
    """Kill a worker of a frozen command, as the system does; exit code and errors."""
    workers[0].kill()
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=MINUTES)
    wait_until_gone(workers)
    return process.returncode, errors


def end_frozen(process: subprocess.Popen[str], workers: list[psutil.Process]) -> None:
    if process.poll() is None:
        process.kill()
        process.communicate(timeout=MINUTES)
    wait_until_gone(workers)


def wait_until_gone(processes: list[psutil.Process]) -> None:
    wait_for(lambda: not any(_lives(process) for process in processes))


def hidden_files(folder: Path) -> list[Path]:
    return list(folder.rglob(".*"))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
