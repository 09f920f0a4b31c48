"""How a command ends: its last message and exit code, even if the standard streams are closed."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

from nnunetv2_s2ca.core.text import printable

INTERRUPTED, CLOSED_PIPE = 130, 141  # the shell's exit codes for SIGINT and SIGPIPE


class _Output(io.FileIO):
    """The standard output, which remembers a failed write."""

    lost: OSError | None = None

    def write(self, content: Any) -> Any:
        try:
            return super().write(content)
        except OSError as error:
            self.lost = self.lost or error  # the first one ends the command
            raise


def provide_streams() -> None:
    """Open missing standard streams, and let them accept any text.

    Otherwise the next file to be opened would get the descriptor of a closed stream and receive
    what libraries print.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdout is sys.__stdout__:  # not replaced by a program that calls this one
        sys.stdout = _text(_Output(1, "w", closefd=False))
    if sys.stderr is None:
        sys.stderr = _text(io.FileIO(2, "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _text(raw: io.FileIO) -> io.TextIOWrapper:
    former = sys.stdout
    at_once = (former is not None and former.isatty()) or bool(os.environ.get("PYTHONUNBUFFERED"))
    encoding = "utf-8" if former is None else former.encoding
    if former is not None:
        former.flush()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, line_buffering=at_once)


def finish(command: str, error: BaseException | None = None) -> int:
    """Flush the streams and report what went wrong.

    Args:
        command: Start of the message.
        error: What ended the command early.

    Returns:
        The exit code; 0 if nothing went wrong.
    """
    code, message = (0, "") if error is None else _explain(error)
    _flush(sys.stdout)
    lost = _lost_output()
    if lost is not None and (error is None or _stems_from(error, lost)):
        if isinstance(lost, BrokenPipeError):  # the reader has seen enough
            return CLOSED_PIPE
        code, message = 1, f"error: the standard output cannot be written: {lost.strerror}"
    if message:
        with suppress(OSError):
            print(printable(f"{command}: {message}"), file=sys.stderr)
    _flush(sys.stderr)
    return code


def _explain(error: BaseException) -> tuple[int, str]:
    """Exit code and message."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    if isinstance(error, MemoryError):
        return 1, "error: out of memory; use fewer processes, or a larger machine"
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename is not None else ""
        return 1, f"error: {place}{error.strerror or error}"
    return 1, f"error: {error}"


def _lost_output() -> OSError | None:
    """Why the standard output could not be written; `None` if it could."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.lost if isinstance(raw, _Output) else None


def _stems_from(error: BaseException | None, lost: OSError) -> bool:
    while error is not None and error is not lost:
        error = error.__cause__ or error.__context__
    return error is lost


def _flush(stream: TextIO) -> None:
    """Flush a stream, or discard what it holds if that fails.

    Otherwise Python would try again at exit, and complain.
    """
    try:
        stream.flush()
    except OSError:
        with suppress(OSError, ValueError):  # a captured stream has no descriptor
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            stream.flush()
