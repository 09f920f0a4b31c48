"""Values and file names in messages: short, and harmless to a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

LONGEST = 100

# control and format characters, surrogates, line and paragraph separators
UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def in_few_words(value: object) -> str:
    """Python's notation of a value, in ASCII and truncated."""
    text = ascii(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def printable(text: str) -> str:
    """Escape every character that could control a terminal, except line breaks and tabs."""
    return "".join(
        char if char in "\n\t" or unicodedata.category(char) not in UNPRINTABLE else _escaped(char)
        for char in text
    )


def excerpt(name: str) -> str:
    """A name from a file, for messages: on one line, printable, and truncated."""
    # truncated first, since the name may have a gigabyte
    shown = printable(name[:LONGEST]).replace("\n", "\\n").replace("\t", "\\t")
    return shown if len(name) <= LONGEST else f"{shown}… ({len(name):,} characters)"


def listed(names: Iterable[str], *, limit: int = 5) -> str:
    """The first names, and the number of the others: "a, b and 3 more"."""
    found = list(names)
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
