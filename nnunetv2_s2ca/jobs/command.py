"""Running one of nnU-Net's commands as a job that can be interrupted and resumed."""

from __future__ import annotations

import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from submitit.helpers import DelayedSubmission

from nnunetv2_s2ca.core.launcher import command_line, end, share_of_cores, start
from nnunetv2_s2ca.core.lock import Lock
from nnunetv2_s2ca.core.signals import signals_as_exceptions


@dataclass(frozen=True)
class NnUNetJob(ABC):
    """A call of one of nnU-Net's commands.

    Attributes:
        name: Name in reports and in `squeue`.
        cores: Cores to use; `None` for all.
        gpu: The GPU to use, as CUDA_VISIBLE_DEVICES names it; `None` to leave that to PyTorch.
        owner: Process with which the job ends; `None` if it may outlive the process that starts it.
    """

    name: str
    cores: int | None
    gpu: str | None = field(default=None, kw_only=True)
    owner: int | None = field(default=None, kw_only=True)

    @abstractmethod
    def command(self) -> list[str]:
        """The command and its arguments at this point; empty if there is nothing left to do."""

    def lock(self) -> AbstractContextManager[Lock | None]:
        """The lock to hold while the command runs, if it must not run twice at a time."""
        return nullcontext()

    def __call__(self) -> None:
        """Run the command until it ends.

        Raises:
            UserError: The command is running already, and must not run twice.
            subprocess.CalledProcessError: The command failed.
        """
        with self.lock() as lock:
            command = self.command()
            if command:
                print(" ".join(command), flush=True)
                self._run(command, lock)

    def checkpoint(self) -> DelayedSubmission:
        """What submitit queues again after a time-out: the same job, which resumes by its files."""
        return DelayedSubmission(self)

    def _run(self, command: Sequence[str], lock: Lock | None) -> None:
        """Run the command in a session of its own, which ends with this process."""
        environment = os.environ | share_of_cores(self.cores)
        if self.gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpu
        with signals_as_exceptions():
            process = start(
                command_line(*command, owner=self.owner),
                environment,
                pass_fds=[lock.descriptor] if lock else [],
            )
            try:
                if lock:
                    lock.name_holder(process.pid)
                code = process.wait()
            finally:
                end(process)  # including the workers that a killed command leaves behind
        if code:
            raise subprocess.CalledProcessError(code, list(command))
