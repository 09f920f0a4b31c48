"""Turning signals that end a process into exceptions, so that it ends its children first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise `SystemExit` in the block, with the shell's exit code.

    Signals that are already handled or ignored stay so: `nohup` ignores SIGHUP, and submitit
    handles SIGTERM. Python handles signals in the main thread only; elsewhere this does nothing.
    """
    taken: list[signal.Signals] = []

    def leave(number: int, frame: FrameType | None) -> None:
        for sign in taken:  # a closing terminal sends two; the second would interrupt the cleanup
            signal.signal(sign, signal.SIG_IGN)
        raise SystemExit(128 + number)

    if threading.current_thread() is threading.main_thread():
        # Windows has no SIGHUP
        wanted = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        taken += [sign for sign in wanted if signal.getsignal(sign) is signal.SIG_DFL]
    for sign in taken:
        signal.signal(sign, leave)
    try:
        yield
    finally:
        for sign in taken:
            signal.signal(sign, signal.SIG_DFL)
