"""Locks that keep two processes from writing one output."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.paths import resolved

TRAINING_LOCK = "s2ca_training.lock"


@dataclass(frozen=True)
class Lock:
    """A lock that this process holds.

    Attributes:
        descriptor: The locked file's. A process that inherits it also holds the lock until it ends,
            even if the process that started it ends first.
    """

    descriptor: int

    def name_holder(self, group: int) -> None:
        """Record the process group that works, for others that find the output locked."""
        holder = f"process {group} on {socket.gethostname()} (to end it there: kill -- -{group})"
        os.ftruncate(self.descriptor, 0)
        os.write(self.descriptor, holder.encode())


@contextmanager
def output_lock(output: Path, *, doing: str = "written") -> Iterator[Lock]:
    """Hold the output's lock while the block runs.

    The lock is a hidden file beside the output, or in it where nothing can be written beside it,
    and is removed at the end of the block. The lock of a dead process is taken over.

    Args:
        output: The file or folder to write; need not exist yet. Links to it share its lock.
        doing: Completes the message to others: "OUTPUT is already being …".

    Raises:
        UserError: Another process holds the lock, or the lock cannot be written.
    """
    place = resolved(output)
    made: list[Path] = []
    try:
        with _naming(output):
            made = _make_folders(place.parent)
            path = place.with_name(f".{place.name}.s2ca.lock")
            if not _can_write_in(place.parent) and place.is_dir():
                path = place / ".s2ca.lock"
            file = open_locked(path, f"{output} is already being {doing}")
        with file:
            try:
                with _naming(output):
                    file.truncate(0)
                    holder = f"process {os.getpid()} on {socket.gethostname()}"
                    os.write(file.fileno(), holder.encode())
                yield Lock(file.fileno())
            finally:
                with suppress(OSError):
                    path.unlink()
    finally:
        for folder in made:
            with suppress(OSError):  # not empty: in use by now
                folder.rmdir()


@contextmanager
def lock_fold(folder: Path) -> Iterator[Lock]:
    """Hold the lock of a fold's folder, which is created if it does not exist.

    The lock file stays, since a training that outlives this process keeps holding it.

    Raises:
        UserError: The fold is already being trained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open_locked(folder / TRAINING_LOCK, f"{folder} is already being trained") as file:
        file.truncate(0)
        yield Lock(file.fileno())


def training_in(folder: Path) -> str | None:
    """The message to the user if the fold is being trained, else `None`."""
    if not (folder / TRAINING_LOCK).is_file():
        return None
    try:
        with lock_fold(folder):
            return None
    except UserError as error:
        return str(error)


def open_locked(path: Path, busy: str) -> IO[bytes]:
    """Open and lock a file, which is created if it does not exist.

    Where the file system does not support locks, the file is opened with a printed warning.

    Args:
        path: The file.
        busy: Start of the message if another process holds the lock.

    Raises:
        UserError: Another process holds the lock.
        OSError: The file cannot be opened.
    """
    while True:
        file = path.open("a+b")
        try:
            _lock(file)
        except BlockingIOError:
            with file:
                file.seek(0)
                holder = file.read().decode(errors="replace") or "another process"
            raise UserError(
                f"{busy}, by {holder}. Wait for it, or end it; then run the command again"
            ) from None
        except OSError as error:
            print(
                f"{path} cannot be locked ({error.strerror}): a second process that writes the "
                "same output at the same time would go unnoticed",
                file=sys.stderr,
            )
            return file
        except BaseException:
            file.close()
            raise
        # the former owner may have removed the file after we opened it and before we locked it
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def _lock(file: IO[bytes]) -> None:
    if sys.platform == "win32":
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _naming(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror or error}") from error


def _make_folders(folder: Path) -> list[Path]:
    """Create a folder and its parents; returns those that were missing, innermost first."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _can_write_in(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)
