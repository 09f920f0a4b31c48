"""The one kind of error that a user can fix."""

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
    """What the disk refuses, such as a folder without the right to enter it, is the user's to fix.

    Args:
        action: what the block, or the function under this decorator, does with files.
        place: the file, where the system's error does not name it, as of a full disk.

    Raises:
        UserError: for an OSError; names the file.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or place or 'a file'} cannot be {action}: {error.strerror or error}"
        ) from error
