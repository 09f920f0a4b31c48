"""Where jobs run: processes on this machine, or a SLURM cluster."""

from __future__ import annotations

import os
import queue
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock
from typing import Any, ClassVar

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import write_text
from nnunetv2_s2ca.core.signals import signals_as_exceptions
from nnunetv2_s2ca.jobs.command import NnUNetJob

# Trainings of days on partitions of hours: submitit's own three requeues would not reach far
MOST_TIMEOUTS = 100
# A local job ends when it is done; submitit wants a number
NO_LIMIT_MINUTES = 60 * 24 * 365
# States of SLURM in which a job still holds, or waits for, its place
ALIVE = frozenset(
    {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED", "RESIZING"}
)


@dataclass(frozen=True)
class LocalBackend:
    """Processes on this machine, some at a time.

    Attributes:
        gpus: The GPUs to use, one for each job at a time, as CUDA_VISIBLE_DEVICES names them; empty
            for none.
        parallel: Jobs at a time where there is no GPU; each gets its share of the cores.
        debug: Run the jobs one after another in this process, as submitit's debug executor does.
    """

    gpus: tuple[str, ...] = ()
    parallel: int = 1
    debug: bool = False

    @property
    def slots(self) -> int:
        """Number of jobs at a time."""
        return 1 if self.debug else len(self.gpus) or self.parallel

    @property
    def cores(self) -> int | None:
        """Cores for each job; `None` where one job has them all."""
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
    """A SLURM cluster; the folder of results must be shared with its nodes.

    Attributes:
        minutes: Time limit of a job; on reaching it, a job is queued again and goes on.
        memory_gb: Memory of a job.
        cores: Cores of a job.
        gpus: GPUs of a job, 0 or 1.
        parallel: Jobs at a time; `None` for as many as SLURM starts.
        partition: Partition; `None` for the cluster's default.
        options: Further options of sbatch by the names that submitit gives them.
    """

    minutes: int
    memory_gb: float
    cores: int
    gpus: int = 1
    parallel: int | None = None
    partition: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    cluster: ClassVar = "slurm"

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


def run_locally(
    jobs: Sequence[NnUNetJob],
    backend: LocalBackend,
    *,
    logs: Path,
    report: Callable[[str], None] = print,
) -> dict[str, str]:
    """Run jobs on this machine, as many at a time as the backend has slots, and wait for them.

    SIGTERM and SIGHUP, like Ctrl-C, end the jobs before they end this process.

    Args:
        jobs: What to run.
        backend: How.
        logs: Folder for submitit's files, the logs among them.
        report: Takes one line for each job that starts or ends.

    Returns:
        For each failed job, by name, where its log is, or, under `debug`, what went wrong.
    """
    gpus: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    for slot in range(backend.slots):
        gpus.put(backend.gpus[slot] if backend.gpus else None)
    running: list[submitit.Job[None]] = []
    interrupted = Event()
    starting, reporting = Lock(), Lock()

    def say(line: str) -> None:
        # print writes a line and its end apart, and the slots would mix theirs
        with reporting:
            report(line)

    def run(job: NnUNetJob) -> str | None:
        gpu = gpus.get()
        try:
            with starting:
                if interrupted.is_set():
                    return None
                submitted = _executor(backend, logs).submit(replace(job, gpu=gpu))
                running.append(submitted)
            paths = submitted.paths
            where = "" if gpu is None else f" on GPU {gpu}"
            # the debug executor only starts the job once it is asked how it went, and has no logs
            say(f"{job.name}: started{where}{'' if backend.debug else f', log {paths.stdout}'}")
            if not backend.debug:
                submitted.wait()
                if interrupted.is_set():  # it left no result, which submitit would wait for
                    return None
            error = submitted.exception()
            if error is None:
                say(f"{job.name}: finished")
                return None
            if backend.debug:
                say(f"{job.name}: failed: {error}")
                return str(error)
            say(f"{job.name}: failed, see {paths.stdout} and {paths.stderr.name} beside it")
            return str(paths.stdout)
        finally:
            gpus.put(gpu)

    if backend.debug:
        outcomes = [run(job) for job in jobs]
    else:
        with signals_as_exceptions(), ThreadPoolExecutor(backend.slots) as pool:
            futures = [pool.submit(run, job) for job in jobs]
            try:
                outcomes = [future.result() for future in futures]
            except BaseException:
                with starting:
                    interrupted.set()
                pool.shutdown(wait=False, cancel_futures=True)
                for submitted in running:
                    submitted.cancel(check=False)
                with suppress(OSError):  # the terminal may be gone
                    say("interrupted; ending the jobs that run")
                raise
    return {job.name: log for job, log in zip(jobs, outcomes, strict=True) if log is not None}


def submit_to_slurm(
    jobs: Sequence[NnUNetJob],
    backend: SlurmBackend,
    *,
    logs: Path,
    name: str,
    report: Callable[[str], None] = print,
) -> dict[str, str]:
    """Submit jobs to SLURM as one array, those left out that it still has from an earlier call.

    Args:
        jobs: What to run.
        backend: The resources of each.
        logs: Folder for submitit's files, shared with the nodes.
        name: The name in `squeue`.
        report: Takes one line for each job.

    Returns:
        The ids of the jobs, by name.

    Raises:
        UserError: There is no SLURM here, or it refused the jobs.
    """
    fresh, queued = _without_queued(jobs, logs=logs)
    for job_name, job_id in queued.items():
        report(
            f"{job_name}: SLURM has it already, job {job_id}; if it has not, remove "
            f"{_queue_record(logs, job_name)}"
        )
    if not fresh:
        return queued
    try:
        executor = _executor(backend, logs)
        executor.update_parameters(name=name)
        with executor.batch():
            submitted = [executor.submit(job) for job in fresh]
    except (NameError, FailedSubmissionError, FailedJobError) as error:
        raise UserError(f"SLURM refused the jobs: {error}") from error
    except (RuntimeError, FileNotFoundError) as error:
        raise UserError(
            f"SLURM cannot be reached: {error}. Run this on the cluster's login node, or take "
            "--backend local"
        ) from error
    for job, handle in zip(fresh, submitted, strict=True):
        write_text(_queue_record(logs, job.name), handle.job_id)
        report(f"{job.name}: submitted, job {handle.job_id}, log {handle.paths.stdout}")
        queued[job.name] = handle.job_id
    return queued


def visible_gpus(chosen: Sequence[int] | None = None) -> tuple[str, ...]:
    """This machine's GPUs, by the names that CUDA_VISIBLE_DEVICES has for them.

    Where that variable is set, by the user or a cluster, it says which GPUs are there, and they are
    counted from 0 as PyTorch counts them.

    Args:
        chosen: Their numbers; `None` for all.

    Raises:
        UserError: A number that no GPU has.
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
            raise UserError(f"--gpus {number}: PyTorch sees no such GPU; there are: {there}")
    return tuple(names[number].strip() for number in chosen)


def parse_minutes(text: str) -> int:
    """Minutes of a time limit as SLURM writes it: `90`, `12:00:00`, `2-00`, `1-12:00:00`.

    Raises:
        UserError: Another form.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        raise UserError(f"--time {text}: expected minutes, hours:minutes:seconds or days-hours")
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
    """Gigabytes of an amount of memory as SLURM writes it: `32G`, `32000M`; a bare number is GB.

    Raises:
        UserError: Another form.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MGT]?)B?", text, flags=re.IGNORECASE)
    if match is None or float(match[1]) <= 0:
        raise UserError(f"--mem {text}: expected a number with M, G or T, such as 32G")
    return float(match[1]) * {"M": 1 / 1024, "G": 1, "T": 1024}[match[2].upper() or "G"]


def _executor(backend: LocalBackend | SlurmBackend, logs: Path) -> submitit.AutoExecutor:
    executor = submitit.AutoExecutor(
        folder=logs, cluster=backend.cluster, slurm_max_num_timeout=MOST_TIMEOUTS
    )
    executor.update_parameters(**backend.parameters())
    return executor


def _without_queued(
    jobs: Sequence[NnUNetJob], *, logs: Path
) -> tuple[list[NnUNetJob], dict[str, str]]:
    """The jobs that SLURM does not have yet, and the ids of those that it has, by name.

    A job of which SLURM says nothing, as where `sacct` is off or late, and that left no result is
    taken for one that it has: two trainings of one fold would spoil each other.
    """
    fresh, queued = [], {}
    for job in jobs:
        record = _queue_record(logs, job.name)
        if record.is_file():
            handle: submitit.SlurmJob[None] = submitit.SlurmJob(
                logs, record.read_text(encoding="utf-8")
            )
            ended = handle.paths.result_pickle.exists()
            if handle.state in ALIVE or (handle.state == "UNKNOWN" and not ended):
                queued[job.name] = handle.job_id
                continue
        fresh.append(job)
    return fresh, queued


def _queue_record(logs: Path, name: str) -> Path:
    """The file that holds the id under which SLURM has the job of that name."""
    return logs / f"{name.replace(' ', '_')}.job"
