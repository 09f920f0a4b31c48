"""Converting a BraTS download to a dataset in nnU-Net's raw format."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nnunetv2_s2ca.brats.editions import Edition
from nnunetv2_s2ca.core.errors import UserError, disk_errors_named
from nnunetv2_s2ca.core.files import read_json, write_text
from nnunetv2_s2ca.core.folders import check_apart, check_replaceable, replaced_folder
from nnunetv2_s2ca.core.lock import output_lock
from nnunetv2_s2ca.core.nnunet import RAW, check_id_is_free, nnunet_folder
from nnunetv2_s2ca.core.paths import resolved
from nnunetv2_s2ca.core.workers import map_cases
from nnunetv2_s2ca.dataset_conversion.check import CheckedCase, check_cases, describe
from nnunetv2_s2ca.dataset_conversion.disk import check_disk
from nnunetv2_s2ca.dataset_conversion.record import RecordedCase, write_record
from nnunetv2_s2ca.dataset_conversion.source import Case
from nnunetv2_s2ca.dataset_conversion.write_case import write_case

SKIPPED = "s2ca_skipped.txt"
SETTINGS = "settings.json"  # in the dataset's folder until it is complete


@dataclass(frozen=True)
class Conversion:
    """A dataset in nnUNet_raw.

    Attributes:
        folder: The dataset's folder.
        training: Number of cases with a segmentation.
        to_predict: Number of cases without one.
        skipped: Number of invalid cases that were skipped.
    """

    folder: Path
    training: int
    to_predict: int
    skipped: int

    def __str__(self) -> str:
        number = int(self.folder.name[7:10])
        made = (
            f"{self.training} training cases, {self.to_predict} cases to predict, "
            f"{self.skipped} skipped: {self.folder}"
        )
        if not self.training:
            return made
        return (
            f"{made}\nnext: nnUNetv2_plan_and_preprocess -d {number}, then s2ca splits -d {number} "
            "for patient-disjoint folds"
        )


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to convert.

    Attributes:
        dataset_id: nnU-Net's id; the edition's own if None.
        name: Name of the dataset, after the id; the edition's own if None.
        link: Leave the images where they are and refer to them from `dataset.json`.
        deep: With `link`, read all voxels of the images; a copy always does.
        overwrite: Replace an existing dataset.
        skip_invalid: Skip cases that are invalid or change meanwhile, and list them in a file.
    """

    dataset_id: int | None = None
    name: str | None = None
    link: bool = False
    deep: bool = False
    overwrite: bool = False
    skip_invalid: bool = False


@disk_errors_named()
def convert(
    edition: Edition,
    source: Path,
    options: Options | None = None,
    *,
    processes: int | None = None,
    say: Callable[[str], None] = print,
) -> Conversion:
    """Write a dataset to nnUNet_raw; it appears there only once it is complete.

    An interrupted conversion of the same files resumes; if any file has changed, it starts again.

    Args:
        edition: Edition of the source.
        source: Folder of the download.
        options: How to convert; the defaults if None.
        processes: Worker processes; all cores if None.
        say: Receives the lines of the report.

    Raises:
        UserError: Something is wrong with the source or the target, they overlap, or another
            process is converting to this id; nothing is left behind.
    """
    options, source = options or Options(), resolved(Path(source))
    link, overwrite, skip_invalid = options.link, options.overwrite, options.skip_invalid
    raw = nnunet_folder(RAW)
    target = raw / edition.folder_name(options.dataset_id, options.name)
    number = target.name[7:10]
    if link and edition.four_dimensional:
        raise UserError(
            f"{edition.name} cannot be linked, since its files hold all channels in another "
            "order; copy them"
        )
    # one lock per id, since two datasets must not get the same id
    with output_lock(raw / f"Dataset{number}", doing="converted to") as lock:
        check_id_is_free(target.name)
        check_replaceable(target, overwrite=overwrite)
        check_apart(target, source)
        checked = check_cases(
            edition, source, processes=processes, deep=options.deep or not link, label_files=True
        )
        say(describe(edition, checked, source=source))
        good, bad = _sort_out(checked, skip_invalid=skip_invalid)
        check_apart(target, *(path for item in good for path in item.case.states))
        ending = _file_ending(good) if link else ".nii.gz"
        check_disk(target, [item.case for item in good], link=link, say=say)
        settings: dict[str, Any] = {"edition": edition.name, "source": str(source), "link": link}
        if edition.channels != edition.stored_channels:
            settings["channels"] = list(edition.channels)
        with replaced_folder(target, overwrite=overwrite, resume=True, lock=lock) as folder:
            _begin(folder, {**settings, "files": _states(good)})
            write = partial(write_case, edition=edition, folder=folder, link=link, ending=ending)
            # writing the labels is faster than starting worker processes
            found = map_cases(write, good, processes=1 if link else processes, title="convert")
            good, changed = _sort_out(_with_problems(good, found), skip_invalid=skip_invalid)
            bad += changed
            _write_description(folder, edition, good, link=link, ending=ending)
            write_record(folder, settings, {item.case.identifier: _record(item) for item in good})
            if bad:
                lines = [f"{case.identifier}: {'; '.join(case.problems)}\n" for case in bad]
                write_text(folder / SKIPPED, "".join(lines))
            (folder / SETTINGS).unlink()
    training = sum(item.case.segmentation is not None for item in good)
    return Conversion(target, training, len(good) - training, len(bad))


def _sort_out(
    checked: Sequence[CheckedCase], *, skip_invalid: bool
) -> tuple[list[CheckedCase], list[Case]]:
    bad = [item.case for item in checked if item.case.problems]
    good = [item for item in checked if not item.case.problems]
    if bad and not skip_invalid:
        problems = [f"{case.identifier}: {problem}" for case in bad for problem in case.problems]
        more = f"\n  … and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise UserError(
            f"{len(bad)} of {len(checked)} cases cannot be converted; nothing was written. Fix "
            "them, or skip them with `skip_invalid=True`.\n  " + "\n  ".join(problems[:10]) + more
        )
    if not good:
        raise UserError("no case is left to convert")
    return good, bad


def _with_problems(
    items: Sequence[CheckedCase], problems: Sequence[Sequence[str]]
) -> list[CheckedCase]:
    return [
        replace(item, case=replace(item.case, problems=tuple(own)))
        for item, own in zip(items, problems, strict=True)
    ]


def _file_ending(good: Sequence[CheckedCase]) -> str:
    """The ending of the linked images, and therefore of all files of the dataset."""
    images = [path for item in good for path in item.case.images.values()]
    strange = next((path for path in images if not str(path).isprintable()), None)
    if strange is not None:
        raise UserError(
            f"{strange} cannot be linked, since its path is not UTF-8 or has characters that "
            "cannot be printed; copy the images"
        )
    endings = {
        ".nii.gz" if path.name.endswith(".nii.gz") else ".nii" if path.suffix == ".nii" else "?"
        for path in images
    }
    if len(endings) != 1 or "?" in endings:
        raise UserError(
            "the images cannot be linked, since nnU-Net needs one file ending in lower case, and "
            "they mix .nii and .nii.gz or have capitals; copy the images"
        )
    return endings.pop()


def _states(good: Sequence[CheckedCase]) -> dict[str, list[int]]:
    """File → size and time of the last change, for JSON."""
    return {str(path): list(state) for item in good for path, state in item.case.states.items()}


def _begin(folder: Path, settings: dict[str, Any]) -> None:
    """Prepare the dataset's folder, keeping the files of an interrupted conversion like this."""
    note = folder / SETTINGS
    if not note.is_file() or _settings_in(note) != settings:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for sub in ("imagesTr", "imagesTs", "labelsTr"):
        (folder / sub).mkdir(exist_ok=True)
    write_text(note, json.dumps(settings))


def _settings_in(note: Path) -> dict[str, Any] | None:
    """The settings of an interrupted conversion, if they can still be read."""
    try:
        return read_json(note)
    except UserError:
        return None


def _write_description(
    folder: Path, edition: Edition, good: Sequence[CheckedCase], *, link: bool, ending: str
) -> None:
    from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

    training = [item.case for item in good if item.case.segmentation is not None]
    with disk_errors_named("written", folder / "dataset.json"):
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


def _linked(training: Sequence[Case], edition: Edition, ending: str) -> dict[str, Any]:
    """The `dataset` entry, which lets nnU-Net read images from anywhere."""
    return {
        case.identifier: {
            "images": [str(case.images[channel]) for channel in edition.channels],
            # relative to the dataset's folder
            "label": f"labelsTr/{case.identifier}{ending}",
        }
        for case in training
    }


def _record(item: CheckedCase) -> RecordedCase:
    return RecordedCase(item.case.patient, item.case.grade, item.labels)
