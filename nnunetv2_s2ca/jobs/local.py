"""Running jobs on this machine, some at a time."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock

import submitit

from nnunetv2_s2ca.core.files import check_output_folder
from nnunetv2_s2ca.core.signals import signals_as_exceptions
from nnunetv2_s2ca.jobs.backends import LocalBackend, make_executor
from nnunetv2_s2ca.jobs.command import NnUNetJob

LOOK = 0.05  # seconds between checks whether a job has ended; submitit itself checks every second


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
        jobs: The jobs.
        backend: The resources.
        logs: Folder for submitit's files, including the logs.
        report: Receives a line for each job that starts or ends.

    Returns:
        Name of each failed job → its log, or with `debug` the error.

    Raises:
        UserError: The logs cannot be written.
    """
    check_output_folder(logs)
    gpus: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    for slot in range(backend.slots):
        gpus.put(backend.gpus[slot] if backend.gpus else None)
    running: list[submitit.Job[None]] = []
    interrupted = Event()
    starting, reporting = Lock(), Lock()

    def say(line: str) -> None:
        # print writes a line and its end separately, so lines of several threads would mix
        with reporting:
            report(line)

    def run(job: NnUNetJob) -> str | None:
        gpu = gpus.get()
        try:
            with starting:
                if interrupted.is_set():
                    return None
                submitted = make_executor(backend, logs).submit(replace(job, gpu=gpu))
                running.append(submitted)
            paths = submitted.paths
            # named by a process id, which may recur after the machine has restarted
            paths.result_pickle.unlink(missing_ok=True)
            where = "" if gpu is None else f" on GPU {gpu}"
            # the debug executor starts the job when asked for its result, and has no logs
            say(f"{job.name}: started{where}{'' if backend.debug else f', log {paths.stdout}'}")
            if not backend.debug:
                while not submitted.done():
                    time.sleep(LOOK)
                if interrupted.is_set():  # there is no result, which submitit would wait for
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
            except BaseException as error:
                with starting:
                    interrupted.set()
                pool.shutdown(wait=False, cancel_futures=True)
                for submitted in running:
                    submitted.cancel(check=False)
                if not isinstance(error, Exception):
                    with suppress(OSError):  # the terminal may be gone
                        say("interrupted; ending the running jobs")
                raise
    return {job.name: log for job, log in zip(jobs, outcomes, strict=True) if log is not None}
