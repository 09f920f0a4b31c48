"""Checks of a checkpoint's file before its content is read: its kind, its sizes, its checksums."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_regular_file
from nnunetv2_s2ca.core.text import excerpt

ZIP_MAGIC = b"PK\x03\x04"

# what `zipfile` raises for archives that are damaged, encrypted, or packed in an unknown way
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def check_archive(path: Path) -> None:
    """Refuse a file that cannot be read safely and as it was written.

    PyTorch's reader looks at no checksum, and inflates whatever an archive announces. Files of its
    older format are no archives and have no checksums; of them, only the kind is checked.

    Raises:
        UserError: It is no regular file, or an archive that is damaged or announces more than it
            holds.
    """
    check_regular_file(path)
    try:
        with path.open("rb") as file:
            if file.read(len(ZIP_MAGIC)) != ZIP_MAGIC:
                return
            with zipfile.ZipFile(file) as archive:
                _check_sizes(path, archive)
                damaged = archive.testzip()
    except ZIP_ERRORS as error:
        raise damaged_file(path, str(error)) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    if damaged is not None:
        raise damaged_file(path, f"the checksum of {damaged} is wrong")


def damaged_file(path: Path, reason: str) -> UserError:
    """The error for a file that is not as PyTorch wrote it, if it ever did."""
    return UserError(
        f"{path} is no PyTorch checkpoint, or a damaged one ({excerpt(reason)}). Compare its size "
        "with the source's, and download it again"
    )


def _check_sizes(path: Path, archive: zipfile.ZipFile) -> None:
    """PyTorch does not compress; an archive that would grow is none of its files."""
    announced = sum(entry.file_size for entry in archive.infolist())
    size = path.stat().st_size
    if announced > size:
        raise UserError(
            f"{path} has {size:,} bytes, but its entries would inflate to {announced:,}; PyTorch "
            "compresses nothing, so that this is no checkpoint as it was saved. Ask for the "
            "original file"
        )
