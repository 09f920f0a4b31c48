"""Adding files to a folder, all or none, without touching its other files."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError, disk_errors_named
from nnunetv2_s2ca.core.files import check_output_folder, read_json
from nnunetv2_s2ca.core.folders import replaced_folder
from nnunetv2_s2ca.core.lock import output_lock
from nnunetv2_s2ca.core.paths import resolved

# Hidden folder in the output for unfinished files, and the list in it of the files to move out
UNFINISHED = ".s2ca.partial"
MOVING = "moving.json"


@contextmanager
def added_files(target: Path, names: Sequence[str], *, overwrite: bool) -> Iterator[Path]:
    """Yield a hidden, empty folder whose files move to `target` if the block succeeds.

    While the block runs, this process holds the output's lock. If the block fails, `target` is as
    before. A run that was killed while it moved its files can be repeated without `overwrite`.

    Args:
        target: The folder; created if missing.
        names: Names of the files that the block will write.
        overwrite: Replace files of these names.

    Raises:
        UserError: A file of such a name exists without `overwrite`, or is a folder; `target` cannot
            be written (any `OSError` in the block counts as that); or another process is writing
            it.
    """
    check_output_folder(target)
    if not resolved(target).exists():
        try:
            with replaced_folder(target, overwrite=False) as folder:
                yield folder
        except OSError as error:
            raise _cannot_write(target, error) from error
        return
    with output_lock(target):
        unfinished = target / UNFINISHED
        _check_free(target, set(names) - _moved_by_killed_run(unfinished), overwrite=overwrite)
        with disk_errors_named("written"):
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
        try:
            yield unfinished
            _move_in(unfinished, target)
        except OSError as error:
            raise _cannot_write(target, error) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _check_free(target: Path, names: set[str], *, overwrite: bool) -> None:
    for name in sorted(names):
        path = target / name
        if path.is_dir():
            raise UserError(f"{path} is a folder; expected a file, or nothing. Move the folder")
        if (path.exists() or path.is_symlink()) and not overwrite:
            raise UserError(
                f"{path} exists; pass `overwrite=True` to replace it, or name another folder "
                "(`output`)"
            )


def _moved_by_killed_run(unfinished: Path) -> set[str]:
    """The files in the output that an earlier run had moved when it was killed."""
    try:
        names = read_json(unfinished / MOVING, list)
    except UserError:
        return set()
    return {name for name in map(str, names) if not (unfinished / name).exists()}


def _move_in(unfinished: Path, target: Path) -> None:
    files = sorted(unfinished.iterdir())
    # written under another name first, since a truncated list would lack files
    listed = unfinished / f"{MOVING}.new"
    listed.write_text(json.dumps([file.name for file in files]), encoding="utf-8")
    listed.replace(unfinished / MOVING)
    for file in files:
        file.replace(target / file.name)


def _cannot_write(target: Path, error: OSError) -> UserError:
    hint = "; make room first" if error.errno == errno.ENOSPC else ""
    return UserError(f"{target} cannot be written: {error.strerror or error}{hint}")
