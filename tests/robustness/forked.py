"""`s2ca` as a copy of this process, which has imported everything: a run costs what it does.

Its workers are started as always. It leads a session, by which its processes are found.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import psutil

SECONDS_TO_END = 5.0
HANGS = 600.0  # seconds; no process waits so long for a processor
INTERVAL = 0.02
# what the processes of a busy machine wait for
BUSY = (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)


def import_all() -> None:
    """Import what the commands import at their first use."""
    for name in (
        *("dataset_conversion.convert", "dataset_conversion.export", "evaluation.cohort"),
        *("postprocessing.folders", "checkpoints.importing"),
        *("api.conversion", "api.evaluation", "api.postprocessing", "api.checkpoints", "cli"),
    ):
        importlib.import_module(f"nnunetv2_s2ca.{name}")
    importlib.import_module("nnunetv2.dataset_conversion.generate_dataset_json")
    importlib.import_module("SimpleITK")


@dataclass
class Forked:
    """A running command.

    Attributes:
        pid: Its process id, and its session's.
        code: Its exit code; None until `ended` has found its end.
    """

    pid: int
    code: int | None = None

    def ended(self) -> bool:
        """Whether the command has ended, whatever its workers do."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def wait(self) -> int:
        """Wait for the command's end; returns its exit code."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    def left_over(self) -> list[psutil.Process]:
        """The command's processes that do not end within `SECONDS_TO_END`.

        Those are seconds in which they compute or sleep. Waiting for a processor or a disk does not
        count, since it says nothing about them.
        """
        spent, start, last = 0.0, time.monotonic(), time.monotonic()
        computed: dict[int, float] = {}
        while (living := self.living()) and spent < SECONDS_TO_END:
            time.sleep(INTERVAL)
            now = time.monotonic()
            if now - start > HANGS:
                break
            before, computed = computed, _processor_seconds(living)
            if any(_is_busy(process) for process in living):
                spent += sum(seconds - before.get(pid, 0.0) for pid, seconds in computed.items())
            else:
                spent += now - last
            last = now
        return living

    def living(self) -> list[psutil.Process]:
        """The living processes of the command's session."""
        self.ended()  # otherwise the command's own process would stay as a zombie
        found = []
        for pid in psutil.pids():
            try:
                if os.getsid(pid) == self.pid:
                    process = psutil.Process(pid)
                    if process.status() != psutil.STATUS_ZOMBIE:
                        found.append(process)
            except (psutil.Error, OSError):  # it has ended
                continue
        return found

    def kill_all(self) -> None:
        for process in self.living():
            process.kill()
        self.wait()


def fork(arguments: Sequence[object], environment: Mapping[str, str], log: Path) -> Forked:
    """Start `s2ca`, which prints to `log`."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _run([str(argument) for argument in arguments], environment, log)
    return Forked(pid)


def _run(arguments: list[str], environment: Mapping[str, str], log: Path) -> NoReturn:
    code = 1
    try:
        os.setsid()
        for sign in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(sign, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.environ.update(environment)
        sys.modules["__main__"] = ModuleType("__main__")  # or workers would import this program
        code = _main(arguments)
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _main(arguments: list[str]) -> int:
    from nnunetv2_s2ca.cli import main

    return main(arguments)


def _processor_seconds(processes: Sequence[psutil.Process]) -> dict[int, float]:
    seconds = {}
    for process in processes:
        try:
            times = process.cpu_times()
        except (psutil.Error, OSError):
            continue
        seconds[process.pid] = times.user + times.system
    return seconds


def _is_busy(process: psutil.Process) -> bool:
    try:
        return process.status() in BUSY
    except (psutil.Error, OSError):
        return False
