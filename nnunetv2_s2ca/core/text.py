"""Values of files as errors show them."""

from __future__ import annotations

LONGEST = 100


def in_few_words(value: object) -> str:
    """A value as Python writes it, in ASCII and cut off where it is long."""
    text = ascii(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
