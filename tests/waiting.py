"""Waiting for an event, with a limit that a loaded machine keeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psutil

Found = TypeVar("Found")

MINUTES = 600.0  # seconds; what takes longer on any machine, hangs


def wait_for(condition: Callable[[], Found], *, seconds: float = MINUTES) -> Found:
    """Wait until the condition holds; returns what it gives."""
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, f"did not come about within {seconds} s"
        time.sleep(0.02)
    return found


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for its parent to collect it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
