"""Limits under which a process works as on a full disk."""

from __future__ import annotations

import resource
from contextlib import contextmanager


@contextmanager
def files_of_at_most(size: int):
    """Let this process write no more to a file, which fails as on a full disk."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
