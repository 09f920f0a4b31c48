"""Reading files with errors that name them, and writing files atomically."""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.lock import open_locked
from nnunetv2_s2ca.core.paths import resolved

Content = TypeVar("Content", dict[str, Any], list[Any])

JSON_KINDS = {dict: "object, {…}", list: "array, […]"}


def check_output_folder(folder: Path) -> None:
    """Refuse an output folder that cannot be written to, before any work is done.

    Raises:
        UserError: The folder or one of its parents is a file; it cannot be written to; its disk is
            full; or it is relative and the current folder is gone.
    """
    place = resolved(folder)
    try:
        nearest = next(place for place in (place, *place.parents) if place.exists())
        if not nearest.is_dir():
            raise UserError(f"{nearest} is a file; expected a folder for the output")
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written to: {error.strerror or error}; name another folder"
        ) from error


def check_regular_file(path: Path) -> None:
    """Refuse anything but a regular file; reading a named pipe would wait forever.

    Raises:
        UserError: It is missing, inaccessible, a folder, a pipe or a device.
    """
    try:
        if path.is_file():
            return
        path.stat()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    kind = "folder" if path.is_dir() else "pipe or device"
    raise UserError(f"{path} is a {kind}; expected a file")


def read_json(path: Path, kind: type[Content] = dict) -> Content:  # type: ignore[assignment]
    """Read the object or array in a JSON file.

    NaN and infinity, which nnU-Net writes, are accepted.

    Args:
        path: The file, in UTF-8.
        kind: `dict` or `list`.

    Raises:
        UserError: The file is missing or damaged, or holds something else.
    """
    check_regular_file(path)
    try:
        content = json.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a JSON file: it is not UTF-8 ({error.reason})") from error
    except RecursionError as error:
        raise UserError(f"{path} is not a valid JSON file: it is nested too deeply") from error
    except (ValueError, MemoryError) as error:  # numbers of thousands of digits are a ValueError
        raise UserError(f"{path} is not a JSON file: {error or 'too large'}") from error
    if not isinstance(content, kind):
        raise UserError(
            f"{path}: expected a JSON {JSON_KINDS[kind]}, found a {type(content).__name__}"
        )
    return content


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`, which becomes `path` if the block succeeds.

    Its name ends as `path` does, since image writers choose the format by it, and starts with a
    dot, so that nobody mistakes it for a finished file. What a killed process has left under this
    name is overwritten.

    Raises:
        UserError: `path` cannot be written, or another process is writing it.
    """
    temporary = path.with_name(f".s2ca.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_locked(temporary, f"{path} is already being written"):
            try:
                yield temporary
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        if error.filename not in (None, str(path), str(path.parent), str(temporary)):
            raise
        hint = ": the disk is full; make room first" if error.errno == errno.ENOSPC else ""
        raise UserError(f"{path} cannot be written: {error.strerror or error}{hint}") from error


def write_text(path: Path, text: str) -> None:
    r"""Write `text` to `path` atomically, as UTF-8.

    What UTF-8 cannot encode, such as file names in other encodings, is written as `\udcXX`.
    """
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
