"""Starting processes that a closing terminal ends, even if the tests themselves run under nohup."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hangup_not_ignored() -> Iterator[None]:
    """While the block runs, processes that start do not inherit that SIGHUP is ignored."""
    former = signal.getsignal(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, former)
