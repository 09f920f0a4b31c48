"""One of nnU-Net's commands as a job that can be interrupted and goes on where it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from submitit.helpers import DelayedSubmission

from nnunetv2_s2ca.core.lock import FoldLock
from nnunetv2_s2ca.core.signals import signals_as_exceptions

# Seconds between asking nnU-Net's processes to end and ending them
GRACE = 10

# nnU-Net's commands by their entry points, since its scripts need not stand beside this python
ENTRY_POINTS = {
    "nnUNetv2_train": "from nnunetv2.run.run_training import run_training_entry as run",
    "nnUNetv2_predict": "from nnunetv2.inference.predict_from_raw_data import "
    "predict_entry_point as run",
}


@dataclass(frozen=True)
class NnUNetJob(ABC):
    """A call of one of nnU-Net's commands.

    Attributes:
        name: What to call it in reports, and in `squeue`.
        cores: Cores that it may use; `None` for all.
        gpu: The GPU that it sees, as CUDA_VISIBLE_DEVICES names it; `None` for what there is.
    """

    name: str
    cores: int | None
    gpu: str | None = field(default=None, kw_only=True)

    @abstractmethod
    def command(self) -> list[str]:
        """The command and its arguments, as of now; empty if there is nothing left to do."""

    def lock(self) -> AbstractContextManager[FoldLock | None]:
        """What is held while the command runs, if it must not run twice at a time."""
        return nullcontext()

    def __call__(self) -> None:
        """Run the command until it ends.

        Raises:
            UserError: It runs already, and must not run twice.
            subprocess.CalledProcessError: It failed.
        """
        with self.lock() as lock:
            command = self.command()
            if command:
                print(" ".join(command), flush=True)
                run_command(command, cores=self.cores, gpu=self.gpu, lock=lock)

    def checkpoint(self) -> DelayedSubmission:
        """What submitit queues again on a time-out: the same, since it goes by the files."""
        return DelayedSubmission(self)


def run_command(
    command: Sequence[str],
    *,
    cores: int | None = None,
    gpu: str | None = None,
    lock: FoldLock | None = None,
) -> None:
    """Run one of nnU-Net's commands in a process of its own, with all that it starts.

    An interruption of this process ends them all: nnU-Net's workers would otherwise outlive it.

    Args:
        command: Its name and arguments.
        cores: Cores that it may use; `None` for all.
        gpu: The GPU that it sees, as CUDA_VISIBLE_DEVICES names it; `None` for what there is.
        lock: What it holds as long as any of its processes lives.

    Raises:
        subprocess.CalledProcessError: The command failed.
    """
    name, *arguments = command
    program = f"{ENTRY_POINTS[name]}; run()"
    if cores is not None:
        # With `-device cpu` nnU-Net asks torch for as many threads as multiprocessing counts cores.
        # OMP_THREAD_LIMIT is no way out: oneDNN waits for ever for the threads that it holds back.
        program = f"import multiprocessing; multiprocessing.cpu_count = lambda: {cores}; {program}"
    environment = os.environ | _share_of_cores(cores)
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    with signals_as_exceptions():
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            env=environment,
            start_new_session=True,
            pass_fds=[lock.descriptor] if lock else [],
        )
        try:
            if lock:
                lock.name_holder(process.pid)
            code = process.wait()
        except BaseException:
            _end(process)
            raise
    if code:
        _end(process)  # workers that it left behind, where it was killed
        raise subprocess.CalledProcessError(code, list(command))


def _share_of_cores(cores: int | None) -> dict[str, str]:
    """Environment that holds nnU-Net's threads and workers to so many cores."""
    if cores is None:
        return {}
    workers = {"nnUNet_n_proc_DA": cores, "nnUNet_def_n_proc": cores}
    unset = {name: value for name, value in workers.items() if name not in os.environ}
    return {name: str(value) for name, value in ({"OMP_NUM_THREADS": cores} | unset).items()}


def _end(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            return
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            continue
