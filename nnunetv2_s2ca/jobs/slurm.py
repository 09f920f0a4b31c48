"""Submitting jobs to a SLURM cluster, none of them twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_output_folder, write_text
from nnunetv2_s2ca.jobs.backends import SlurmBackend, make_executor
from nnunetv2_s2ca.jobs.command import NnUNetJob

# SLURM's states of jobs that are running or waiting
ALIVE = frozenset(
    {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED", "RESIZING"}
)


def submit_to_slurm(
    jobs: Sequence[NnUNetJob],
    backend: SlurmBackend,
    *,
    logs: Path,
    name: str,
    report: Callable[[str], None] = print,
) -> dict[str, str]:
    """Submit jobs to SLURM as one array, except those still queued from an earlier call.

    Args:
        jobs: The jobs.
        backend: The resources of each job.
        logs: Folder for submitit's files, shared with the nodes.
        name: Name in `squeue`.
        report: Receives a line for each job.

    Returns:
        Name of each job → its id.

    Raises:
        UserError: There is no SLURM here, it refused the jobs, or the logs cannot be written.
    """
    check_output_folder(logs)
    fresh, queued = _without_queued(jobs, logs=logs)
    for job_name, job_id in queued.items():
        report(
            f"{job_name}: SLURM has it already, job {job_id}; if not, remove "
            f"{_queue_record(logs, job_name)}"
        )
    if not fresh:
        return queued
    try:
        executor = make_executor(backend, logs)
        executor.update_parameters(name=name)
        with executor.batch():
            submitted = [executor.submit(job) for job in fresh]
    except (NameError, FailedSubmissionError, FailedJobError) as error:
        raise UserError(f"SLURM refused the jobs: {error}") from error
    except (RuntimeError, FileNotFoundError) as error:
        raise UserError(
            f"SLURM cannot be reached: {error}. Run this on the cluster's login node, or use "
            "--backend local"
        ) from error
    for job, handle in zip(fresh, submitted, strict=True):
        write_text(_queue_record(logs, job.name), handle.job_id)
        report(f"{job.name}: submitted, job {handle.job_id}, log {handle.paths.stdout}")
        queued[job.name] = handle.job_id
    return queued


def _without_queued(
    jobs: Sequence[NnUNetJob], *, logs: Path
) -> tuple[list[NnUNetJob], dict[str, str]]:
    """The jobs that SLURM does not have yet, and name → id of those that it has.

    A job without a result counts as queued if SLURM does not know its state, for example because
    `sacct` is off or late, since two trainings of one fold would corrupt each other.
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
    """The file with the SLURM id of the job of that name."""
    return logs / f"{name.replace(' ', '_')}.job"
