"""Writing the files of one case in nnU-Net's raw format."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from nnunetv2_s2ca.brats.editions import Edition
from nnunetv2_s2ca.core.files import whole_file
from nnunetv2_s2ca.core.nifti import (
    READ_ERRORS,
    length_fits,
    open_nifti,
    read_failure,
    read_voxels,
)
from nnunetv2_s2ca.core.nifti_writing import (
    compress_file,
    compressed_nifti,
    header_like,
    write_compressed,
)
from nnunetv2_s2ca.dataset_conversion.examine import CheckedCase
from nnunetv2_s2ca.dataset_conversion.source import changed_files

# errors that concern the target when a file is copied
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class _SourceError(Exception):
    """A file of the source cannot be read."""


def write_case(
    item: CheckedCase, *, edition: Edition, folder: Path, link: bool, ending: str
) -> list[str]:
    """Write a case; whole files that exist already, from an interrupted conversion, are kept.

    Args:
        item: The checked case.
        edition: Edition of the source.
        folder: The dataset's folder, with imagesTr, imagesTs and labelsTr.
        link: Leave the images where they are; those of cases to predict are linked.
        ending: File ending.

    Returns:
        Problems: files of the source that cannot be read or have changed since the check. If there
        are any, nothing of the case is left.

    Raises:
        UserError: The dataset's disk cannot be written.
    """
    case = item.case
    images = folder / ("imagesTs" if case.segmentation is None else "imagesTr")
    channels = edition.channels
    targets = [images / f"{case.identifier}_{n:04d}{ending}" for n in range(len(channels))]
    label = folder / "labelsTr" / f"{case.identifier}{ending}"
    problems = []
    try:
        if edition.four_dimensional:
            order = [int(edition.suffixes[channel]) for channel in channels]
            _split_channels(case.images[channels[0]], targets, order=order)
        elif not link or case.segmentation is None:
            for channel, target in zip(channels, targets, strict=True):
                _take_over(case.images[channel], target, link=link)
    except _SourceError as error:
        problems.append(str(error))
    if item.label_file is not None and not _is_whole(label):
        with whole_file(label) as temporary:
            write_compressed(item.label_file, temporary)
    problems += [
        f"{path}: has changed since it was checked; convert again once the source is stable"
        for path in changed_files(case)
    ]
    if problems:
        for path in (*targets, label):
            path.unlink(missing_ok=True)
    return problems


def _take_over(source: Path, target: Path, *, link: bool) -> None:
    """Copy a file, compress it if it is not compressed, or link it where that works."""
    if target.is_symlink() or _is_whole(target, of=source):
        return
    if link:
        # nnU-Net reads the cases to predict from a folder, not from dataset.json
        try:
            target.symlink_to(source)
            return
        except OSError:  # Windows without the right to create links
            pass
    with whole_file(target) as temporary:
        try:
            if link or source.name.lower().endswith(".gz"):
                shutil.copyfile(source, temporary)
            else:
                compress_file(source, temporary)
        except OSError as error:
            if error.errno in DISK_ERRORS:
                raise OSError(error.errno, error.strerror, str(temporary)) from error
            raise _SourceError(f"{source}: cannot be copied: {error.strerror or error}") from error


def _is_whole(target: Path, *, of: Path | None = None) -> bool:
    """Whether an interrupted conversion has left a file as long as it must be.

    After a power cut, a file may have its name and lack its content.
    """
    try:
        if of is not None and of.name.lower().endswith(".gz"):
            return target.stat().st_size == of.stat().st_size
        with open_nifti(target) as nifti:
            return length_fits(target, nifti)
    except READ_ERRORS:
        return False


def _split_channels(source: Path, targets: list[Path], *, order: list[int]) -> None:
    """Split the MSD's 4D file into one file per channel, in our order."""
    if all(_is_whole(target) for target in targets):
        return
    try:
        voxels = read_voxels(source)
        with open_nifti(source) as nifti:
            header = header_like(nifti.header, voxels.shape[:3], voxels.dtype)
    except READ_ERRORS as error:
        raise _SourceError(f"{source}: {read_failure(error)}") from error
    for target, place in zip(targets, order, strict=True):
        with whole_file(target) as temporary:
            volume = voxels[..., place].ravel(order="F")
            write_compressed(compressed_nifti([volume], header), temporary)
