"""Disk space that copying or linking a download takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.folders import unfinished_folder
from nnunetv2_s2ca.dataset_conversion.source import Case


def check_disk(
    target: Path, cases: Sequence[Case], *, link: bool, say: Callable[[str], None]
) -> None:
    """Report the disk space for linking and copying, and refuse what does not fit.

    The leftovers of an interrupted conversion are reused or deleted, so their space counts as free.

    Raises:
        UserError: There is too little space.
    """
    images = {path: case.states[path][0] for case in cases for path in case.images.values()}
    labels = sum(case.states[case.segmentation][0] for case in cases if case.segmentation)
    total = sum(images.values()) + labels
    say(
        f"disk: --copy {_size(total)} at most, --link {_size(labels)}; "
        f"{'linking' if link else 'copying'}"
    )
    needed = labels if link else total
    begun = unfinished_folder(target)
    free = shutil.disk_usage(begun.parent).free
    free += sum(path.lstat().st_size for path in begun.rglob("*"))
    if needed > free:
        raise UserError(
            f"{target.parent} has {_size(free)} free, but {_size(needed)} are needed; make room"
            + ("" if link else ", or pass `link=True` to leave the images where they are")
        )


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} bytes"
