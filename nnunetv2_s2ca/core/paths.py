"""Resolving links in paths."""

from __future__ import annotations

from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError


def resolved(path: Path) -> Path:
    """The absolute path with links resolved; it need not exist.

    Raises:
        UserError: The links form a loop, or the path is relative and the current folder is gone.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # which one a loop raises depends on Python's version
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be resolved: {reason}") from error
