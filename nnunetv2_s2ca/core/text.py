"""Values and names of files as errors show them, and terminals can bear them."""

from __future__ import annotations

import unicodedata

LONGEST = 100

# control and format characters, halves of characters, line and paragraph separators
UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def in_few_words(value: object) -> str:
    """A value as Python writes it, in ASCII and cut off where it is long."""
    text = ascii(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def printable(text: str) -> str:
    """The text with everything escaped that could change what a terminal shows besides it.

    Line breaks and tabs stay.
    """
    return "".join(
        char if char in "\n\t" or unicodedata.category(char) not in UNPRINTABLE else _escaped(char)
        for char in text
    )


def excerpt(name: str) -> str:
    """A name from a file as a message quotes it: on one line, harmless, and of bounded length."""
    # cut before the escaping, which a name of a gigabyte need not go through
    shown = printable(name[:LONGEST]).replace("\n", "\\n").replace("\t", "\\t")
    return shown if len(name) <= LONGEST else f"{shown}… ({len(name):,} characters)"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
