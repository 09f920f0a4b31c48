"""Text for the terminal: nothing in it can take the terminal over, and the terminal may be gone."""

from __future__ import annotations

import io
import os
import sys
import unicodedata
from contextlib import suppress
from typing import TextIO

SHORT = 100  # characters of a name that a message quotes

# control and format characters, halves of characters, line and paragraph separators
UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    """The text with everything escaped that could change what a terminal shows besides it.

    Line breaks and tabs stay.
    """
    return "".join(
        char if char in "\n\t" or unicodedata.category(char) not in UNPRINTABLE else _escaped(char)
        for char in text
    )


def excerpt(name: object, *, limit: int = SHORT) -> str:
    """A name from a file as a message quotes it: on one line, harmless, and of bounded length."""
    text = str(name)
    # before the escaping, which a name of a gigabyte need not go through
    shown = printable(text[:limit]).replace("\n", "\\n").replace("\t", "\\t")
    return shown if len(text) <= limit else f"{shown}… ({len(text):,} characters)"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def provide_streams() -> None:
    """Give this process the standard streams that it lacks, and let them take any text.

    Otherwise the next file that is opened would get the descriptor of a closed stream, and with it
    what libraries print.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush_output() -> OSError | None:
    """Write out what was printed; returns why that is impossible, and drops it then.

    Otherwise Python itself would try again at its end, and complain.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        _drop(sys.stdout)
        return error
    return None


def print_error(text: str) -> None:
    """Print a message on the standard error, where there still is one."""
    try:
        print(printable(text), file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)


def _drop(stream: TextIO) -> None:
    """Let a stream that takes nothing more end in the void."""
    with suppress(OSError, ValueError):  # a test's stand-in has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    with suppress(OSError, ValueError):
        stream.flush()
