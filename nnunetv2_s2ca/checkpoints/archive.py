"""Check a checkpoint's file before reading it: format, sizes, checksums."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_regular_file
from nnunetv2_s2ca.core.text import excerpt

ZIP_MAGIC = b"PK\x03\x04"

# what `zipfile` raises for damaged, encrypted or otherwise unreadable archives
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
    """Refuse a damaged archive, or one that would inflate.

    PyTorch's reader ignores checksums and inflates whatever an archive announces. Files of its
    older format are not archives and have no checksums, so only their first bytes are checked.

    Raises:
        UserError: It is not a regular file, or is an archive that is damaged or announces more than
            it holds.
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
    """The error for a file that PyTorch did not write, or that has changed since."""
    return UserError(
        f"{path} is not a PyTorch checkpoint, or is damaged ({excerpt(reason)}). Compare its "
        "size with the source's, and download it again"
    )


def _check_sizes(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse an archive that would inflate: PyTorch does not compress its files."""
    announced = sum(entry.file_size for entry in archive.infolist())
    size = path.stat().st_size
    if announced > size:
        raise UserError(
            f"{path} has {size:,} bytes, but its entries would inflate to {announced:,}. PyTorch "
            "does not compress, so this is not the file that was saved; ask for the original"
        )
