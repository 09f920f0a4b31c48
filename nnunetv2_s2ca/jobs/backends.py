"""Where jobs run and with which resources: processes on this machine, or a SLURM cluster."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import submitit

from nnunetv2_s2ca.core.errors import UserError

# A training of days on a partition of hours needs more than submitit's default of three requeues
MOST_TIMEOUTS = 100
# submitit requires a limit, but a local job simply ends when it is done
NO_LIMIT_MINUTES = 60 * 24 * 365


@dataclass(frozen=True)
class LocalBackend:
    """Processes on this machine.

    Attributes:
        gpus: The GPUs to use, one per running job, as CUDA_VISIBLE_DEVICES names them; empty for
            none.
        parallel: Jobs at a time without GPUs; each gets its share of the cores.
        debug: Run the jobs one after another in this process, by submitit's debug executor.
    """

    gpus: tuple[str, ...] = ()
    parallel: int = 1
    debug: bool = False

    @classmethod
    def for_device(
        cls,
        device: str | None,
        *,
        gpus: Sequence[int] | None = None,
        parallel: int | None = None,
        debug: bool = False,
    ) -> LocalBackend:
        """The backend for a device of this machine; if None, CUDA where available, else the CPU.

        Raises:
            UserError: `gpus` are given for another device, or do not exist.
        """
        import torch

        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if gpus and device != "cuda":
            raise UserError("`gpus` chooses among this machine's CUDA devices; leave it out here")
        names = visible_gpus(gpus)[:parallel] if device == "cuda" else ()
        return cls(gpus=names, parallel=parallel or 1, debug=debug)

    @property
    def slots(self) -> int:
        """Number of jobs at a time."""
        return 1 if self.debug else len(self.gpus) or self.parallel

    @property
    def cores(self) -> int | None:
        """Cores per job; `None` if one job has them all."""
        return max(1, (os.cpu_count() or 1) // self.slots) if self.slots > 1 else None

    @property
    def cluster(self) -> str:
        """Name of submitit's executor."""
        return "debug" if self.debug else "local"

    def parameters(self) -> dict[str, Any]:
        """The parameters of submitit's executor."""
        return {"timeout_min": NO_LIMIT_MINUTES}


@dataclass(frozen=True)
class SlurmBackend:
    """A SLURM cluster, whose nodes must share the results folder.

    Attributes:
        minutes: Time limit of a job; a job that reaches it is queued again and resumes.
        memory_gb: Memory of a job.
        cores: Cores of a job.
        gpus: GPUs of a job, 0 or 1.
        parallel: Most jobs at a time; `None` for as many as SLURM starts.
        partition: Partition; `None` for the cluster's default.
        options: Further options of sbatch, by submitit's names.
    """

    minutes: int
    memory_gb: float
    cores: int
    gpus: int = 1
    parallel: int | None = None
    partition: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    cluster: ClassVar = "slurm"

    @classmethod
    def from_texts(
        cls, *, time: str, memory: str, options: Sequence[str] = (), **others: Any
    ) -> SlurmBackend:
        """The backend from values in SLURM's notation.

        Args:
            time: Such as "1-12:00:00".
            memory: Such as "32G".
            options: Further options, each KEY=VALUE.
            others: Further attributes.

        Raises:
            UserError: A value has another format.
        """
        wrong = [option for option in options if "=" not in option]
        if wrong:
            raise UserError(f"`slurm` {wrong[0]}: expected KEY=VALUE")
        return cls(
            minutes=parse_minutes(time),
            memory_gb=parse_gigabytes(memory),
            options=dict(option.split("=", 1) for option in options),
            **others,
        )

    def parameters(self) -> dict[str, Any]:
        """The parameters of submitit's executor."""
        parameters: dict[str, Any] = {
            "timeout_min": self.minutes,
            "mem_gb": self.memory_gb,
            "cpus_per_task": self.cores,
            "slurm_partition": self.partition,
            "slurm_array_parallelism": self.parallel,
        }
        if self.gpus:
            parameters["gpus_per_node"] = self.gpus
        return parameters | {f"slurm_{name}": value for name, value in self.options.items()}


def make_executor(backend: LocalBackend | SlurmBackend, logs: Path) -> submitit.AutoExecutor:
    """Submitit's executor for a backend.

    Args:
        backend: Where jobs run.
        logs: Folder for submitit's files, the logs among them.
    """
    executor = submitit.AutoExecutor(
        folder=logs, cluster=backend.cluster, slurm_max_num_timeout=MOST_TIMEOUTS
    )
    executor.update_parameters(**backend.parameters())
    return executor


def visible_gpus(chosen: Sequence[int] | None = None) -> tuple[str, ...]:
    """This machine's GPUs, as CUDA_VISIBLE_DEVICES names them.

    If that variable is set, only its GPUs are available, counted from 0 as in PyTorch.

    Args:
        chosen: Their numbers; `None` for all.

    Raises:
        UserError: There is no GPU of such a number.
    """
    import torch

    count = torch.cuda.device_count()
    set_names = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = set_names.split(",") if set_names else [str(number) for number in range(count)]
    if chosen is None:
        chosen = range(count)
    for number in chosen:
        if number not in range(count):
            there = f"0 to {count - 1}" if count else "none"
            raise UserError(f"`gpus` {number}: PyTorch sees no such GPU; available: {there}")
    return tuple(names[number].strip() for number in chosen)


def parse_minutes(text: str) -> int:
    """Minutes of a time limit in SLURM's notation: `90`, `12:00:00`, `2-00`, `1-12:00:00`.

    Raises:
        UserError: The text has another format.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        raise UserError(f"`time` {text}: expected minutes, hours:minutes:seconds or days-hours")
    days, *parts = match.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, (minutes, seconds) = 0, (*numbers, 0)[:2]
    return max(1, int(days or 0) * 1440 + hours * 60 + minutes + (seconds > 0))


def parse_gigabytes(text: str) -> float:
    """Gigabytes of memory in SLURM's notation: `32G`, `32000M`; a bare number is GB.

    Raises:
        UserError: The text has another format.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MGT]?)B?", text, flags=re.IGNORECASE)
    if match is None or float(match[1]) <= 0:
        raise UserError(f"`mem` {text}: expected a number with M, G or T, such as 32G")
    return float(match[1]) * {"M": 1 / 1024, "G": 1, "T": 1024}[match[2].upper() or "G"]
