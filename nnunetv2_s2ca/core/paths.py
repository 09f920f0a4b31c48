"""Paths followed through links."""

from __future__ import annotations

from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError


def resolved(path: Path) -> Path:
    """The absolute path, links followed, of something that need not exist.

    Raises:
        UserError: The links run in a circle, or the current folder, which it is relative to, is
            gone.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # of links in a circle, Python's versions raise both
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be resolved: {reason}") from error
