"""Errors that a user can fix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """Something in the user's input or machine is wrong.

    The message names the file or value at fault, what was expected, and what to do. The `s2ca`
    command prints it without a traceback and exits with code 1.
    """


@contextmanager
def disk_errors_named(action: str = "read or written", place: Path | None = None) -> Iterator[None]:
    """Turn errors of the disk, such as a missing permission, into errors that a user can fix.

    Args:
        action: What the block, or the decorated function, does with files.
        place: The file to name where the system's error does not, as for a full disk.

    Raises:
        UserError: The block raised an OSError; names the file.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or place or 'a file'} cannot be {action}: {error.strerror or error}"
        ) from error
