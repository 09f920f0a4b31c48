"""Reading files with errors that name them, and writing them whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnunetv2_s2ca.core.errors import UserError, disk_errors_named


@disk_errors_named("read")
def check_output_folder(folder: Path) -> None:
    """Refuse a folder to write to that cannot be one.

    Raises:
        UserError: It, or what should be a folder above it, is a file or cannot be looked into.
    """
    file = next((place for place in (folder, *folder.parents) if place.is_file()), None)
    if file is not None:
        raise UserError(f"{file} is a file; name a folder for the output (-o)")


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        UserError: The file is missing or damaged, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, {{…}}, found a {type(content).__name__}")
    return content


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, which becomes `path` once the block has ended well.

    The temporary name ends as `path` does, since image writers choose the format by it, and
    starts with a dot, so that no reader of the folder takes it for a finished file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path`, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
