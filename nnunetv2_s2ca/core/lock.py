"""The lock that keeps a second training out of a fold's folder."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError

LOCK_FILE = "s2ca_training.lock"


@dataclass(frozen=True)
class FoldLock:
    """A lock that is held.

    Attributes:
        descriptor: Of the locked file. A process that inherits it holds the lock, too, until it
            ends, whatever becomes of the process that started it.
    """

    descriptor: int

    def name_holder(self, group: int) -> None:
        """Write down which process group trains, for those who find the fold locked."""
        holder = f"process {group} on {socket.gethostname()} (to end it there: kill -- -{group})"
        os.write(self.descriptor, holder.encode())


@contextmanager
def lock_fold(folder: Path) -> Iterator[FoldLock]:
    """Hold the lock of a fold's folder, which is made if need be.

    Where the file system has no locks, it goes on without, and says so.

    Raises:
        UserError: The fold is already being trained.
    """
    import fcntl  # not at the top, since Windows lacks it

    path = folder / LOCK_FILE
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"{folder} is already being trained, by {file.read() or 'another process'}. Wait "
                "for it, or end it; then give the command again"
            ) from None
        except OSError as error:
            print(
                f"{path} cannot be locked ({error.strerror}): a second training of this fold at "
                "the same time would not be noticed",
                file=sys.stderr,
            )
        file.truncate(0)
        yield FoldLock(file.fileno())


def training_in(folder: Path) -> str | None:
    """What to tell the user if the fold is being trained; `None` if it is not."""
    if not (folder / LOCK_FILE).is_file():
        return None
    try:
        with lock_fold(folder):
            return None
    except UserError as error:
        return str(error)
