"""Find complete predictions, from their files alone."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import nibabel as nib
from isal import igzip
from nibabel.filebasedimages import ImageFileError

from nnunetv2_s2ca.core.errors import UserError, disk_errors_named
from nnunetv2_s2ca.core.files import check_regular_file
from nnunetv2_s2ca.core.nifti import DAMAGE, FILE_ENDINGS, PIECE_BYTES

PROBABILITIES = (".npz",)
CUT_OFF: tuple[type[Exception], ...] = (EOFError, *DAMAGE)
MAGIC = {".gz": b"\x1f\x8b", ".npz": b"PK"}


@disk_errors_named("read or removed")
def without_prediction(
    cases: Collection[str],
    target: Path,
    *,
    probabilities: bool,
    report: Callable[[str], None],
) -> list[str]:
    """The cases that are not predicted yet, sorted; files that an interruption cut off are removed.

    nnU-Net takes any file of the right name for a prediction.

    Args:
        cases: Case identifiers.
        target: Folder of predictions.
        probabilities: Whether probabilities are needed as well.
        report: Receives a line for each file that is removed.

    Raises:
        UserError: A file has a prediction's name, but is not one, or cannot be read.
    """
    wanted = [FILE_ENDINGS, PROBABILITIES] if probabilities else [FILE_ENDINGS]
    missing = []
    for case in sorted(cases):
        found = [_has_whole_file(target, case, endings, report) for endings in wanted]
        if not all(found):
            missing.append(case)
    return missing


def _has_whole_file(
    target: Path, case: str, endings: Sequence[str], report: Callable[[str], None]
) -> bool:
    found = False
    for path in (target / f"{case}{ending}" for ending in endings):
        if not path.exists():
            continue
        check_regular_file(path)
        if _is_whole(path):
            found = True
        else:
            report(f"{path} is empty or damaged; {case} is predicted again")
            path.unlink()
    return found


def _is_whole(path: Path) -> bool:
    """Whether a file was written completely; its content is not checked.

    Raises:
        UserError: It is another kind of file, which an interruption cannot leave.
    """
    with path.open("rb") as file:
        beginning = file.read(2)
    # a crash of the machine can leave a file of zeros
    if not beginning.strip(b"\0"):
        return False
    if path.suffix in MAGIC and beginning != MAGIC[path.suffix]:
        raise _no_prediction(path)
    if path.suffix == ".npz":
        return zipfile.is_zipfile(path)  # the directory of a zip file is at its end
    return _is_whole_gzip(path) if path.suffix == ".gz" else _has_all_voxels(path)


def _is_whole_gzip(path: Path) -> bool:
    try:
        with igzip.open(path) as file:
            while file.read(PIECE_BYTES):
                pass
    except CUT_OFF:
        return False
    return True


def _has_all_voxels(path: Path) -> bool:
    try:
        image = nib.load(path)
    except ImageFileError as error:
        raise _no_prediction(path) from error
    voxels = math.prod(image.shape) * image.get_data_dtype().itemsize  # type: ignore[attr-defined]
    return path.stat().st_size >= image.dataobj.offset + voxels  # type: ignore[attr-defined]


def _no_prediction(path: Path) -> UserError:
    return UserError(f"{path} has the name of a prediction, but is not one; move it away")
