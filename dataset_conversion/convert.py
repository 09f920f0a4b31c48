"""A BraTS download becomes a dataset in nnU-Net's raw format."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from nnunetv2_s2ca.brats.editions import Edition
from nnunetv2_s2ca.core.errors import UserError, disk_errors_named
from nnunetv2_s2ca.core.files import read_json
from nnunetv2_s2ca.core.nifti import (
    compressed_nifti,
    load_nifti,
    nifti_image,
    read_voxels,
    write_compressed,
)
from nnunetv2_s2ca.core.workers import map_cases
from nnunetv2_s2ca.dataset_conversion.check import (
    CheckedCase,
    check_cases,
    describe,
)
from nnunetv2_s2ca.dataset_conversion.source import Case

# kept in the dataset's folder, for the way back and for the splits
RECORD = "s2ca_source.json"
SKIPPED = "s2ca_skipped.txt"


@disk_errors_named()
def convert(
    edition: Edition,
    source: Path,
    *,
    dataset_id: int | None = None,
    name: str | None = None,
    link: bool = False,
    processes: int | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Write a dataset to nnUNet_raw; it appears there only once it is whole.

    An interrupted conversion goes on where it was when it is started again with the same files,
    and from the start if any of them has changed.

    Args:
        edition: the edition that the source is.
        source: folder of the download.
        dataset_id: nnU-Net's id; the edition's own if not given.
        name: of the dataset, after the id; the edition's own if not given.
        link: leave the images where they are and refer to them from `dataset.json`.
        processes: worker processes; all cores if not given.
        overwrite: replace an existing dataset.
        skip_bad: go on without the cases that cannot be converted, and list them in a file.
        say: takes the lines that tell what is done.

    Returns:
        The dataset's folder.

    Raises:
        UserError: if anything is wrong with the source or the target; nothing is left behind.
    """
    source = Path(source).resolve()
    raw = raw_folder()
    target = raw / edition.folder_name(dataset_id, name)
    _check_target(target, overwrite=overwrite)
    if link and edition.four_dimensional:
        raise UserError(
            f"{edition.name} cannot be linked, since its files hold all channels in an order of "
            f"their own; use --copy"
        )
    checked = check_cases(edition, source, processes=processes, voxels=not link, label_files=True)
    say(describe(edition, checked, source=Path(source)))
    good, bad = _sort_out(checked, skip_bad=skip_bad)
    ending = _file_ending(good) if link else ".nii.gz"
    partial_folder = raw / f".{target.name}.partial"
    _check_disk(raw, good, link=link, begun=partial_folder, say=say)

    settings = {"edition": edition.name, "source": str(source), "link": link}
    try:
        _open_partial(partial_folder, {**settings, "files": _state_of_files(good)})
        work = partial(
            _write_case, edition=edition, folder=partial_folder, link=link, ending=ending
        )
        # labels are written faster than a worker process starts
        map_cases(work, good, processes=1 if link else processes, title="convert")
        _write_description(partial_folder, edition, good, link=link, ending=ending)
        _write_record(partial_folder, settings, good)
        if bad:
            lines = [f"{case.identifier}: {'; '.join(case.problems)}" for case in bad]
            (partial_folder / SKIPPED).write_text("\n".join(lines) + "\n", encoding="utf-8")
        (partial_folder / "settings.json").unlink()
        _put_in_place(partial_folder, target)
    except OSError as error:
        shutil.rmtree(partial_folder, ignore_errors=True)
        raise UserError(_explain(error, raw)) from error
    training = sum(item.case.segmentation is not None for item in good)
    say(
        f"{training} training cases, {len(good) - training} cases to predict, {len(bad)} skipped: "
        f"{target}"
    )
    if training:
        say(
            f"next: nnUNetv2_plan_and_preprocess -d {target.name[7:10]}, then s2ca splits -d "
            f"{target.name[7:10]}, which keeps patients apart"
        )
    return target


def raw_folder() -> Path:
    """Where nnU-Net keeps its raw datasets.

    Raises:
        UserError: if nnUNet_raw is not set, is no folder, or cannot be read.
    """
    return _nnunet_folder("nnUNet_raw")


def preprocessed_folder() -> Path:
    """Where nnU-Net keeps its preprocessed datasets; raises as `raw_folder`."""
    return _nnunet_folder("nnUNet_preprocessed")


def read_record(dataset: Path) -> dict:
    """Read what the conversion noted about a dataset's edition and cases.

    Raises:
        UserError: if the dataset was not converted by this program, or the file is damaged.
    """
    path = dataset / RECORD
    if not path.is_file():
        raise UserError(
            f"{dataset} has no {RECORD}, so it was not made by `s2ca convert`; convert it first"
        )
    record = read_json(path)
    if not {"edition", "cases"} <= record.keys():
        raise UserError(f"{path} is damaged: it names no edition or no cases; convert again")
    return record


def find_dataset(dataset_id: int) -> Path:
    """The folder of a dataset in nnUNet_raw.

    Raises:
        UserError: if there is none, or more than one.
    """
    raw = raw_folder()
    folders = sorted(raw.glob(f"Dataset{dataset_id:03d}_*"))
    if len(folders) != 1:
        found = ", ".join(folder.name for folder in folders) or "none"
        raise UserError(f"expected one dataset with the id {dataset_id} in {raw}; found {found}")
    return folders[0]


def _nnunet_folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        raise UserError(
            f"the environment variable {variable} is not set; nnU-Net needs it (see `s2ca doctor`)"
        )
    folder = Path(value)
    try:
        os.scandir(f"{folder}/.").close()  # the dot needs the right to enter the folder, too
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{variable} is {folder}, which is no folder; make it first") from None
    except OSError as error:
        raise UserError(
            f"{variable} is {folder}, which cannot be read: {error.strerror}"
        ) from error
    return folder


def _check_target(target: Path, *, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise UserError(f"{target} exists; use --overwrite to replace it, or -d for another id")
    number = target.name.partition("_")[0]
    others = [folder for folder in target.parent.glob(f"{number}_*") if folder != target]
    if others:
        raise UserError(
            f"{others[0]} has the same id, and nnU-Net could not tell them apart; use -d for "
            f"another id"
        )


def _sort_out(
    checked: list[CheckedCase], *, skip_bad: bool
) -> tuple[list[CheckedCase], list[Case]]:
    bad = [item.case for item in checked if item.case.problems]
    good = [item for item in checked if not item.case.problems]
    if bad and not skip_bad:
        problems = [f"{case.identifier}: {problem}" for case in bad for problem in case.problems]
        more = f"\n  … and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise UserError(
            f"{len(bad)} of {len(checked)} cases cannot be converted; nothing was written. Mend "
            "them, or go on without them by --skip-bad.\n  " + "\n  ".join(problems[:10]) + more
        )
    if not good:
        raise UserError("no case is left to convert")
    return good, bad


def _file_ending(good: list[CheckedCase]) -> str:
    endings = {
        ".nii.gz" if path.name.endswith(".nii.gz") else ".nii" if path.suffix == ".nii" else "?"
        for item in good
        for path in item.case.images.values()
    }
    if len(endings) != 1 or "?" in endings:
        raise UserError(
            "the images cannot be linked, since nnU-Net wants one file ending, in small letters, "
            "for all, and they are .nii and .nii.gz or in capitals; use --copy"
        )
    return endings.pop()


def _check_disk(
    raw: Path, good: list[CheckedCase], *, link: bool, begun: Path, say: Callable[[str], None]
) -> None:
    """Say what linking and copying cost, and refuse what cannot fit.

    What an interrupted conversion has `begun` is taken up or deleted, so its room counts as free.
    """
    images = {path for item in good for path in item.case.images.values()}
    copied = sum(path.stat().st_size for path in images)
    labels = sum(
        item.case.segmentation.stat().st_size for item in good if item.case.segmentation is not None
    )
    say(
        f"disk: --copy {_size(copied + labels)} at most, --link {_size(labels)}; "
        f"{'linking' if link else 'copying'}"
    )
    needed = labels if link else copied + labels
    free = shutil.disk_usage(raw).free + sum(path.lstat().st_size for path in begun.rglob("*"))
    if needed > free:
        raise UserError(
            f"{raw} has {_size(free)} free, and {_size(needed)} are needed; make room"
            + ("" if link else ", or refer to the images where they are by --link")
        )


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} bytes"


def _state_of_files(good: list[CheckedCase]) -> dict[str, list[int]]:
    """File → size and time of its last change."""
    files = [path for item in good for path in item.case.images.values()]
    files += [item.case.segmentation for item in good if item.case.segmentation is not None]
    states = {str(path): path.stat() for path in files}
    return {path: [state.st_size, state.st_mtime_ns] for path, state in states.items()}


def _settings_of(note: Path) -> dict | None:
    """Of an interrupted conversion, if they can still be read."""
    try:
        return read_json(note)
    except UserError:
        return None


def _open_partial(folder: Path, settings: dict) -> None:
    """Make the folder of the conversion, or take up one of the same settings."""
    note = folder / "settings.json"
    if folder.is_file():
        folder.unlink()
    elif folder.exists() and _settings_of(note) != settings:
        shutil.rmtree(folder)
    for sub in ("imagesTr", "imagesTs", "labelsTr"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    _write_whole(note, lambda path: path.write_text(json.dumps(settings)))


def _write_case(
    item: CheckedCase, *, edition: Edition, folder: Path, link: bool, ending: str
) -> None:
    case = item.case
    images = folder / ("imagesTs" if case.segmentation is None else "imagesTr")
    if edition.four_dimensional:
        _split_channels(case, edition, images)
    elif not link or case.segmentation is None:
        for number, channel in enumerate(edition.channels):
            target = images / f"{case.identifier}_{number:04d}{ending}"
            _take_over(case.images[channel], target, link=link)
    if item.label_file is not None:
        target = folder / "labelsTr" / f"{case.identifier}{ending}"
        _write_whole(target, partial(write_compressed, item.label_file))


def _take_over(source: Path, target: Path, *, link: bool) -> None:
    """Copy a file as it is, compress one that is not compressed, or link it where that works."""
    if link:
        # nnU-Net reads the cases to predict from a folder, not from dataset.json
        try:
            if not target.is_symlink():
                target.symlink_to(source)
            return
        except OSError:  # Windows without the right to make links
            pass
    if link or source.name.lower().endswith(".gz"):
        _write_whole(target, lambda path: shutil.copyfile(source, path))
    else:
        _write_whole(
            target, lambda path: write_compressed(compressed_nifti(load_nifti(source)), path)
        )


def _split_channels(case: Case, edition: Edition, images: Path) -> None:
    """One file a channel from the MSD's 4D file, in our order."""
    path = case.images[edition.channels[0]]
    targets = [images / f"{case.identifier}_{n:04d}.nii.gz" for n in range(len(edition.channels))]
    if all(target.exists() for target in targets):
        return
    affine, data = load_nifti(path).affine, read_voxels(path)
    for target, channel in zip(targets, edition.channels, strict=True):
        volume = nifti_image(data[..., int(edition.suffixes[channel])], affine)
        _write_whole(target, partial(write_compressed, compressed_nifti(volume)))


def _write_whole(target: Path, write: Callable[[Path], object]) -> None:
    """Write to a temporary name, then rename, unless the file is there already."""
    if target.exists():
        return
    # the ending stays, since writers choose their format by it
    temporary = target.with_name(f".unfinished-{target.name}")
    write(temporary)
    temporary.replace(target)


def _write_description(
    folder: Path, edition: Edition, good: list[CheckedCase], *, link: bool, ending: str
) -> None:
    from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

    training = [item.case for item in good if item.case.segmentation is not None]
    generate_dataset_json(
        str(folder),
        channel_names=dict(enumerate(edition.channels)),
        labels=edition.dataset_json_labels,
        num_training_cases=len(training),
        file_ending=ending,
        regions_class_order=edition.regions_class_order,
        dataset_name=edition.name,
        reference=edition.reference,
        license="see the reference",
        converted_by="nnunetv2-s2ca",
        **({"dataset": _linked(training, edition, ending)} if link else {}),
    )


def _linked(training: list[Case], edition: Edition, ending: str) -> dict:
    """The `dataset` entry, by which nnU-Net reads images from anywhere."""
    return {
        case.identifier: {
            "images": [str(case.images[channel]) for channel in edition.channels],
            # relative to the dataset's folder
            "label": f"labelsTr/{case.identifier}{ending}",
        }
        for case in training
    }


def _write_record(folder: Path, settings: dict, good: list[CheckedCase]) -> None:
    record = {
        **settings,
        "cases": {
            item.case.identifier: {
                "patient": item.case.patient,
                "grade": item.case.grade,
                "labels": item.labels,
            }
            for item in good
        },
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


def _put_in_place(folder: Path, target: Path) -> None:
    """Rename the finished folder; an older one goes only when the new one is in place."""
    former = target.with_name(f".{target.name}.former")
    if not target.exists():
        folder.rename(target)
    else:
        shutil.rmtree(former, ignore_errors=True)  # what an earlier run could not delete
        target.rename(former)
        try:
            folder.rename(target)
        except BaseException:
            former.rename(target)
            raise
    shutil.rmtree(former, ignore_errors=True)


def _explain(error: OSError, raw: Path) -> str:
    if error.errno == errno.ENOSPC:
        return f"the disk of {raw} is full; nothing of the dataset is left there. Make room first"
    return f"{error.filename or raw}: {error.strerror or error}; nothing of the dataset is left"
