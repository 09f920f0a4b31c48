"""Replacing a folder atomically, without touching the input or losing the former content."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError, disk_errors_named
from nnunetv2_s2ca.core.lock import Lock, output_lock
from nnunetv2_s2ca.core.paths import resolved

# endings of the hidden names beside a folder: the new folder while it is written, the former one
# while it is replaced, and whatever is being deleted
UNFINISHED, FORMER, DELETED = HIDDEN = ("partial", "former", "deleted")


def check_apart(output: Path, *inputs: Path) -> None:
    """Refuse an output that is, holds, or lies in an input: replacing it would delete the input.

    Links are followed. The hidden names that `replaced_folder` uses count as the output.

    Raises:
        UserError: They overlap.
    """
    place = resolved(output)
    places = [place, *(_hidden(place, ending) for ending in HIDDEN)]
    outputs = {_identity(mine) for mine in places} - {None}
    above_output = {_identity(folder) for folder in (place, *place.parents)} - {None}
    above_inputs: dict[Path, set[tuple[int, int] | None]] = {}  # thousands lie in a few folders
    for source in inputs:
        its_place = resolved(source)
        its_folder = its_place.parent
        if its_folder not in above_inputs:
            above_inputs[its_folder] = {_identity(p) for p in (its_folder, *its_folder.parents)}
        own = _identity(its_place)
        if own in outputs | above_output or outputs & above_inputs[its_folder]:
            raise UserError(
                f"the input {source} and the output {output} overlap: they are the same, or one "
                "lies in the other, so replacing the output would delete the input. Choose "
                "another output"
            )


@contextmanager
def replaced_folder(
    target: Path, *, overwrite: bool, resume: bool = False, lock: Lock | None = None
) -> Iterator[Path]:
    """Yield a hidden, empty folder beside `target`, which becomes `target` if the block succeeds.

    While the block runs, this process holds the output's lock. If the block fails, `target` is as
    before. Leftovers of killed runs are removed, and a folder that such a run had moved aside is
    restored. If `target` is a link, the folder that it points to is replaced.

    Args:
        target: The folder, which may exist if `overwrite` is set.
        overwrite: Replace an existing folder.
        resume: After an interruption (anything but an `Exception`), keep the hidden folder unless
            it is empty, and yield it with its content the next time.
        lock: The output's lock, if the caller holds it already.

    Raises:
        UserError: `target` is not a folder, exists without `overwrite` (possibly only since the
            block began), or cannot be written; or another process is writing it.
    """
    with output_lock(target) if lock is None else nullcontext():
        place = resolved(target)
        new = _prepare(place)
        check_replaceable(target, overwrite=overwrite)
        _make_empty(new, keep=resume)
        try:
            yield new
            check_replaceable(target, overwrite=overwrite)  # what has appeared is the user's
            _put_in_place(new, place)
        except BaseException as error:
            if isinstance(error, Exception) or not resume or not any(new.iterdir()):
                shutil.rmtree(new, ignore_errors=True)
            raise


@disk_errors_named("written")
def check_replaceable(target: Path, *, overwrite: bool) -> None:
    """Check that a folder may be written, or replaced if it exists.

    Raises:
        UserError: The target is not a folder, is a mount point, or exists without `overwrite`.
    """
    if target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file; expected a folder, or nothing. Move the file")
    if resolved(target).is_mount():
        raise UserError(
            f"{target} is a mount point, which cannot be replaced; name a folder in it, such as "
            f"{target / 'output'}"
        )
    if target.exists() and not overwrite and any(target.iterdir()):
        raise UserError(
            f"{target} exists; pass `overwrite=True` to replace it, or choose another name"
        )


def unfinished_folder(target: Path) -> Path:
    """The hidden folder that `replaced_folder` yields for `target`."""
    return _hidden(resolved(target), UNFINISHED)


def _hidden(place: Path, ending: str) -> Path:
    return place.with_name(f".{place.name}.{ending}")


@disk_errors_named("written")
def _prepare(place: Path) -> Path:
    """Clear up after a killed run; returns the name for the new folder."""
    for ending in HIDDEN:
        name = _hidden(place, ending)
        if name.is_symlink() or name.is_file():  # removes a link, not its target
            name.unlink()
    former = _hidden(place, FORMER)
    if former.exists() and not place.exists():
        former.rename(place)  # the run was killed before the new folder took its place
    _delete(former)
    return _hidden(place, UNFINISHED)


@disk_errors_named("written")
def _make_empty(folder: Path, *, keep: bool) -> None:
    if not keep:
        _delete(folder)
    folder.mkdir(exist_ok=True)


@disk_errors_named("written")
def _put_in_place(new: Path, place: Path) -> None:
    former = _hidden(place, FORMER)
    if place.exists():
        place.rename(former)
    try:
        new.rename(place)
    except BaseException:
        if former.exists():
            former.rename(place)
        raise
    _delete(former)


def _delete(folder: Path) -> None:
    """Delete a folder under a name that no later run mistakes for a complete one."""
    deleted = folder.with_name(folder.name.rpartition(".")[0] + f".{DELETED}")
    shutil.rmtree(deleted, ignore_errors=True)
    if folder.exists():
        folder.rename(deleted)
        shutil.rmtree(deleted, ignore_errors=True)


def _identity(path: Path) -> tuple[int, int] | None:
    """What identifies a file, whatever its name; None if it does not exist."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino
