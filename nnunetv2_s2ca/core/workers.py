"""Applying a function to many cases, in worker processes, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess, parent_process
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

from tqdm import tqdm

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.signals import let_signals_end_this_process, signals_held

Item = TypeVar("Item")
Result = TypeVar("Result")

PR_SET_PDEATHSIG = 1  # prctl(2) of Linux


def map_cases(
    function: Callable[[Item], Result],
    cases: Sequence[Item],
    *,
    processes: int | None = None,
    title: str | None = None,
) -> list[Result]:
    """Apply a function to each case, in worker processes if there are several cases.

    The workers end with this call, even if this process is killed.

    Args:
        function: Must be picklable.
        cases: Its arguments; results are in the same order. Errors name a case by its `str`.
        processes: All cores if None; with one, no worker process is started.
        title: Title of the progress bar, which is shown on terminals; no bar if None.

    Raises:
        UserError: A worker was killed or ran out of memory.
    """
    count = min(processes or os.cpu_count() or 1, len(cases))
    with _progress_bar(len(cases), title) as bar:
        if count <= 1:
            return [_advance(bar, _in_memory(function, case)) for case in cases]
        results: dict[int, Result] = {}
        with _started_workers(count, function) as workers:
            waiting = iter(enumerate(cases))
            busy = {worker.connection: worker for worker in workers}
            for worker in workers:
                worker.start_case(waiting)
            while busy:
                for connection in wait(list(busy)):
                    worker = busy[connection]  # type: ignore[index]
                    results[worker.number] = _advance(bar, worker.result())
                    if not worker.start_case(waiting):
                        del busy[worker.connection]
        return [results[number] for number in range(len(cases))]


def out_of_memory(case: object, error: MemoryError) -> UserError:
    """The error for a case that needs more memory than there is."""
    what = f" ({error})" if str(error) else ""
    return UserError(
        f"{case}: needs more memory than there is{what}; use fewer processes (`processes=1`), or "
        "free memory"
    )


class _WorkerError(Exception):
    """Carries the worker's traceback, which an exception loses between processes."""


@dataclass
class _Worker:
    """A worker process, seen from its parent.

    Attributes:
        process: Runs `_work`.
        connection: This end of the pipe to it.
        number: Index of its current case.
        case: Its current case.
    """

    process: BaseProcess
    connection: Connection
    number: int = -1
    case: Any = None

    def start_case(self, waiting: Iterator[tuple[int, Any]]) -> bool:
        """Send the next case; returns False if there is none."""
        self.number, self.case = next(waiting, (-1, None))
        if self.number < 0:
            return False
        try:
            self.connection.send(self.case)
        except OSError:
            raise self._death() from None
        return True

    def result(self) -> Any:
        """The function's result for the case; raises what the function raised."""
        try:
            succeeded, outcome, trace = self.connection.recv()
        except (EOFError, OSError):
            raise self._death() from None
        if succeeded:
            return outcome
        if isinstance(outcome, UserError):
            raise outcome
        raise outcome from _WorkerError(trace)

    def _death(self) -> UserError:
        self.process.join()
        code = self.process.exitcode or 0
        how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended (code {code})"
        return UserError(
            f"{self.case}: the worker process {how} while it worked on this case. The likely cause "
            "is too little memory; use fewer processes (`processes=1`), or free memory"
        )


@contextmanager
def _started_workers(count: int, function: Callable) -> Iterator[list[_Worker]]:
    context = multiprocessing.get_context("spawn")  # as nnU-Net; fork and threads do not mix
    # as bytes, since unpickling may import much, and the worker must watch its parent before that
    pickled = bytes(ForkingPickler.dumps(function))
    workers: list[_Worker] = []
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, pickled), daemon=True)
            workers.append(_Worker(process, ours))
            with signals_held():
                process.start()
            theirs.close()
        yield workers
    except BaseException:
        for worker in workers:
            if worker.process.pid is not None:
                worker.process.kill()
        raise
    finally:
        for worker in workers:
            worker.connection.close()  # the signal to end
            if worker.process.pid is not None:
                worker.process.join()


def _work(connection: Connection, pickled: bytes) -> None:
    """Work on cases until the parent sends no more; runs in the worker process."""
    let_signals_end_this_process()
    _end_with_parent()
    function = pickle.loads(pickled)
    while True:
        try:
            case = connection.recv()
        except (EOFError, OSError):
            return
        try:
            outcome = bytes(ForkingPickler.dumps((True, _in_memory(function, case), "")))
        except Exception as error:
            outcome = _pickled_failure(error)
        try:
            connection.send_bytes(outcome)
        except OSError:
            return


def _in_memory(function: Callable[[Item], Result], case: Item) -> Result:
    try:
        return function(case)
    except MemoryError as error:
        raise out_of_memory(case, error) from error


def _pickled_failure(error: Exception) -> bytes:
    trace = f"\n{traceback.format_exc()}"
    try:
        return bytes(ForkingPickler.dumps((False, error, trace)))
    except Exception:  # not every exception can be pickled
        return bytes(ForkingPickler.dumps((False, RuntimeError(repr(error)), trace)))


def _end_with_parent() -> None:
    """Have this worker killed when its parent ends, for whatever reason."""
    parent = parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent.pid:  # the parent ended before the line above
            os._exit(1)
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _progress_bar(total: int, title: str | None) -> tqdm:
    # with stderr closed, sys.stderr is None
    shown = title is not None and sys.stderr is not None and sys.stderr.isatty()
    return tqdm(total=total, desc=title, unit="case", disable=not shown)


def _advance(bar: tqdm, result: Result) -> Result:
    bar.update()
    return result
