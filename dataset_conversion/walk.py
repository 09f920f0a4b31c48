"""Walking the folders and images of a download, and listing what is ignored."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from nnunetv2_s2ca.dataset_conversion.patients import NAME_MAPPING

IMAGE_NAME = re.compile(r"(?P<stem>.+)\.nii(\.gz)?", re.IGNORECASE | re.DOTALL)


def walk(source: Path) -> Iterator[tuple[Path, list[str]]]:
    """The source and all its subfolders except hidden ones, each with the names of its files."""
    for name, folders, files in os.walk(source, onerror=_raise, followlinks=True):
        folder = Path(name)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith((".", "__MACOSX"))
            and not ((folder / name).is_symlink() and _leads_up(folder / name))
        )
        yield folder, sorted(name for name in files if not name.startswith("."))


def images_among(folder: Path, names: list[str]) -> Iterator[tuple[Path, str]]:
    """The NIfTI files among the files of a folder, with their names without the ending."""
    for name in names:
        if match := IMAGE_NAME.fullmatch(name):
            yield folder / name, match["stem"]


def all_images(source: Path) -> Iterator[tuple[Path, str]]:
    """All NIfTI files in the source and its subfolders, as from `images_among`."""
    for folder, names in walk(source):
        yield from images_among(folder, names)


def what_is_passed_over(source: Path) -> list[str]:
    """The files and links of a download that are ignored, one line per kind."""
    counts: Counter[str] = Counter()
    for path in source.rglob("*"):
        if path.is_symlink() and path.is_dir() and _leads_up(path):
            counts["links to a parent folder"] += 1
        elif not path.is_file() or fnmatch(path.name, NAME_MAPPING):
            continue
        elif path.name.startswith("."):
            counts["hidden files of macOS and others"] += 1
        elif path.suffix.lower() in (".csv", ".xlsx", ".xls"):
            counts["tables"] += 1
    return [f"{count} {kind} ignored" for kind, count in sorted(counts.items())]


def _raise(error: OSError) -> None:
    """Report folders that cannot be read, which os.walk would skip silently."""
    raise error


def _leads_up(link: Path) -> bool:
    """Whether a link leads to one of its parent folders, so that following it would never end."""
    return os.path.realpath(link) in {os.path.realpath(folder) for folder in link.parents}
