"""Running nnU-Net's commands and ours as processes that have a share of the cores and end whole."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import psutil

# The functions behind the commands: called by this interpreter, they need no scripts on the path
ENTRY_POINTS = {
    "nnUNetv2_plan_and_preprocess": (
        "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints",
        "plan_and_preprocess_entry",
    ),
    "nnUNetv2_preprocess": (
        "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints",
        "preprocess_entry",
    ),
    "nnUNetv2_train": ("nnunetv2.run.run_training", "run_training_entry"),
    "nnUNetv2_predict": ("nnunetv2.inference.predict_from_raw_data", "predict_entry_point"),
    "s2ca": ("nnunetv2_s2ca.cli", "main"),
}
CORES = "S2CA_CORES"  # environment variable: number of cores that a command sees
GRACE = 10.0  # seconds between asking processes to end and killing them
OWNER_INTERVAL = 0.5  # seconds between checks that the owners are alive


def command_line(name: str, *arguments: object, owner: int | None = None) -> tuple[str, ...]:
    """The command line that runs a command of nnU-Net, or `s2ca`; it ends with this process.

    Args:
        name: The command, one of `ENTRY_POINTS`.
        arguments: The command's arguments.
        owner: Another process with which the command ends.
    """
    owners = [os.getpid()] if owner is None else [os.getpid(), owner]
    program = f"from {__name__} import launch; launch({name!r}, owners={owners})"
    return (sys.executable, "-c", program, *map(str, arguments))


def share_of_cores(cores: int | None) -> dict[str, str]:
    """Environment that limits a command's threads and workers to some cores; `None` for all."""
    if cores is None:
        return {}
    workers = {"nnUNet_n_proc_DA": cores, "nnUNet_def_n_proc": cores}
    unset = {name: value for name, value in workers.items() if name not in os.environ}
    own = {CORES: cores, "OMP_NUM_THREADS": cores}
    return {name: str(value) for name, value in (own | unset).items()}


def start(
    command: Sequence[str], environment: Mapping[str, str], **options: Any
) -> subprocess.Popen:
    """Start a command in a session of its own, by which `end` finds all its processes.

    Args:
        command: From `command_line`.
        environment: Its environment variables.
        options: Further ones of `subprocess.Popen`.
    """
    return subprocess.Popen(command, env=dict(environment), start_new_session=True, **options)


def launch(name: str, *, owners: Sequence[int]) -> None:
    """Run the command in the new process; `command_line` calls this."""
    threading.Thread(target=_end_with, args=(owners,), daemon=True).start()
    if CORES in os.environ:
        cores = int(os.environ[CORES])
        # With `-device cpu`, nnU-Net starts a thread for each core that it counts.
        # OMP_THREAD_LIMIT does not help: oneDNN waits forever for threads beyond the limit.
        multiprocessing.cpu_count = lambda: cores  # type: ignore[assignment]
    module, function = ENTRY_POINTS[name]
    sys.exit(getattr(importlib.import_module(module), function)())


def end(process: subprocess.Popen) -> None:
    """End a session leader and all processes of its session."""
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        for member in _living_members(process.pid):
            with suppress(psutil.NoSuchProcess):
                ask(member)
        limit = time.monotonic() + GRACE
        while time.monotonic() < limit:
            process.poll()  # otherwise the ended leader would count as alive
            if not _living_members(process.pid):
                return
            time.sleep(0.02)


def _end_with(owners: Sequence[int]) -> None:
    """Wait until an owner ends, then end this process and those it has started."""
    while all(map(_lives, owners)):
        time.sleep(OWNER_INTERVAL)
    for member in _living_members(os.getpid()):
        if member.pid != os.getpid():
            with suppress(psutil.NoSuchProcess):
                member.kill()
    os._exit(1)  # without waiting for the command's own threads


def _lives(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    return False


def _living_members(leader: int) -> list[psutil.Process]:
    """The living processes of a session, its leader included."""
    if sys.platform == "win32":  # has no process groups; orphans are not found there
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(leader)
            return [process, *process.children(recursive=True)] if _lives(leader) else []
        return []
    members = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == leader and _lives(process.pid):
                members.append(process)
    return members
