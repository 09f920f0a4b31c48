"""Waiting for an event, with a limit that a loaded machine keeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

MINUTES = 600.0  # seconds; what takes longer on any machine, hangs


def wait_for(condition: Callable[[], Found], *, seconds: float = MINUTES) -> Found:
    """Wait until the condition holds; returns what it gives."""
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, f"did not come about within {seconds} s"
        time.sleep(0.02)
    return found
