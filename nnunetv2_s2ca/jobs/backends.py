"""Where jobs run: processes on this machine, or a SLURM cluster."""

from __future__ import annotations

import os
import queue
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import submitit

from nnunetv2_s2ca.errors import UserError
from nnunetv2_s2ca.files import write_text
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
        gpus: Ids of the GPUs to use, one for each job at a time; empty for none.
        parallel: Jobs at a time where there is no GPU; each gets its share of the cores.
        debug: Run the jobs one after another in this process, as submitit's debug executor does.
    """

    gpus: tuple[int, ...] = ()
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


@dataclass(frozen=True)
class SlurmBackend:
    """A SLURM cluster; the folder of results must be shared with its nodes.

    Attributes:
        minutes: Time limit of a job; on reaching it, a job is queued again and goes on.
        memory_gb: Memory of a job.
        cores: Cores of a job.
        gpus: GPUs of a job, 0 or 1.
        partition: Partition; `None` for the cluster's default.
        options: Further options of sbatch by the names that submitit gives them.
    """

    minutes: int
    memory_gb: float
    cores: int
    gpus: int = 1
    partition: str | None = None
    options: dict[str, str] = field(default_factory=dict)

    def parameters(self) -> dict[str, Any]:
        """The parameters of submitit's executor."""
        parameters: dict[str, Any] = {
            "timeout_min": self.minutes,
            "mem_gb": self.memory_gb,
            "cpus_per_task": self.cores,
            "slurm_partition": self.partition,
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

    Args:
        jobs: What to run.
        backend: How.
        logs: Folder for submitit's files, the logs among them.
        report: Takes one line for each job that starts or ends.

    Returns:
        For each failed job, by name, where its log is.
    """
    gpus: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    for slot in range(backend.slots):
        gpus.put(backend.gpus[slot] if backend.gpus and not backend.debug else None)
    running: list[submitit.Job[None]] = []
    reporting = Lock()

    def say(line: str) -> None:
        # print writes a line and its end apart, and the slots would mix theirs
        with reporting:
            report(line)

    def run(job: NnUNetJob) -> str | None:
        gpu = gpus.get()
        try:
            submitted = _local_executor(logs, gpu, debug=backend.debug).submit(job)
            running.append(submitted)
            log = submitted.paths.stdout
            say(f"{job.name}: started{'' if gpu is None else f' on GPU {gpu}'}, log {log}")
            if submitted.exception() is None:
                say(f"{job.name}: finished")
                return None
            say(f"{job.name}: failed, see {log} and {submitted.paths.stderr.name} beside it")
            return str(log)
        finally:
            gpus.put(gpu)

    if backend.debug:
        outcomes = [run(job) for job in jobs]
    else:
        with ThreadPoolExecutor(backend.slots) as pool:
            futures = [pool.submit(run, job) for job in jobs]
            try:
                outcomes = [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for submitted in running:
                    submitted.cancel(check=False)
                raise
    return {job.name: log for job, log in zip(jobs, outcomes, strict=True) if log is not None}


def submit_to_slurm(
    jobs: Sequence[NnUNetJob], backend: SlurmBackend, *, logs: Path, name: str
) -> list[submitit.Job[None]]:
    """Submit jobs to SLURM as one array.

    Args:
        jobs: What to run; what is still queued from an earlier call is left out by
            `without_queued`.
        backend: The resources of each.
        logs: Folder for submitit's files, shared with the nodes.
        name: The name in `squeue`.

    Returns:
        The submitted jobs, in order.

    Raises:
        UserError: There is no SLURM here, or it refused the jobs.
    """
    try:
        executor = submitit.AutoExecutor(
            folder=logs, cluster="slurm", slurm_max_num_timeout=MOST_TIMEOUTS
        )
        executor.update_parameters(name=name, **backend.parameters())
        with executor.batch():
            submitted = [executor.submit(job) for job in jobs]
    except RuntimeError as error:
        raise UserError(
            f"SLURM cannot be reached: {error}. Run this on the cluster's login node, or take "
            "--backend local"
        ) from error
    except (NameError, submitit.core.utils.FailedSubmissionError) as error:
        raise UserError(f"SLURM refused the jobs: {error}") from error
    for job, handle in zip(jobs, submitted, strict=True):
        write_text(queue_record(logs, job.name), handle.job_id)
    return submitted


def without_queued(
    jobs: Sequence[NnUNetJob], *, logs: Path
) -> tuple[list[NnUNetJob], dict[str, str]]:
    """The jobs that SLURM does not have yet, and the ids of those that it has, by name.

    A job of which SLURM says nothing, as where `sacct` is off or late, and that left no result is
    taken for one that it has: two trainings of one fold would spoil each other.
    """
    fresh, queued = [], {}
    for job in jobs:
        record = queue_record(logs, job.name)
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


def queue_record(logs: Path, name: str) -> Path:
    """The file that holds the id under which SLURM has the job of that name."""
    return logs / f"{name.replace(' ', '_')}.job"


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


def _local_executor(logs: Path, gpu: int | None, *, debug: bool) -> submitit.Executor:
    if debug:
        return submitit.DebugExecutor(logs)
    executor = submitit.LocalExecutor(logs)
    executor.update_parameters(timeout_min=NO_LIMIT_MINUTES)
    if gpu is not None:
        executor.update_parameters(gpus_per_node=1, visible_gpus=(gpu,))
    return executor
