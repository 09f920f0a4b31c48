"""Signals that end a process: raised as exceptions, and held back while it starts others."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Windows has no SIGHUP
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
HELD = (signal.SIGINT, *ENDING)


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
        taken += [sign for sign in ENDING if signal.getsignal(sign) is signal.SIG_DFL]
    for sign in taken:
        signal.signal(sign, leave)
    try:
        yield
    finally:
        for sign in taken:
            signal.signal(sign, signal.SIG_DFL)


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold back Ctrl-C and the signals that end this process until the block is over.

    They are blocked in this thread, and therefore in processes that it starts meanwhile. Any other
    thread, such as one of BLAS, can still receive them, and Python would then run their handlers
    here: in the main thread, the handlers wait, too.
    """
    received: list[int] = []
    former = {}
    if threading.current_thread() is threading.main_thread():
        for number in HELD:
            # None is a handler that Python did not install and cannot restore
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                former[number] = signal.signal(number, lambda caught, _: received.append(caught))
    masks = hasattr(signal, "pthread_sigmask")  # not on Windows
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, HELD) if masks else set()
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for caught in dict.fromkeys(received):
            signal.raise_signal(caught)


def let_signals_end_this_process() -> None:
    """Undo `signals_held` in a process that was started meanwhile, but for Ctrl-C.

    A terminal sends Ctrl-C to all processes of a command; the one that started this ends it.
    """
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
