"""The four MRI sequences, however a file, an option or a dataset spells them."""

from __future__ import annotations

import re

SEQUENCES = ("T1", "T1ce", "T2", "FLAIR")
# of the BraTS editions, the MSD and nnU-Net's converters, without case and punctuation
_SPELLINGS = {
    "T1": ("t1", "t1n", "t1w"),
    "T1ce": ("t1ce", "t1c", "t1gd", "t1post"),
    "T2": ("t2", "t2w"),
    "FLAIR": ("flair", "t2f", "t2flair"),
}


def sequence_named(name: str) -> str | None:
    """`T1ce` for `t1ce`, `T1c`, `t1-gd` and so on; None for what is no sequence of BraTS."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return next((known for known, names in _SPELLINGS.items() if plain in names), None)
