"""Find the cases of a BraTS download: which files belong together, and which are unusual."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nnunetv2_s2ca.brats.editions import EDITIONS, Edition
from nnunetv2_s2ca.core.errors import UserError, disk_errors_named
from nnunetv2_s2ca.core.text import excerpt
from nnunetv2_s2ca.dataset_conversion.patients import GRADES, Patients
from nnunetv2_s2ca.dataset_conversion.walk import all_images, images_among, walk

# BraTS20_Training_355 was published with its segmentation under another name
STRAY_SEGMENTATION = re.compile(r".+_segm\.nii(\.gz)?", re.IGNORECASE)


@dataclass(frozen=True)
class Case:
    """The files of one case.

    Attributes:
        identifier: As the source spells it; also nnU-Net's case identifier.
        images: Channel → file; for the MSD, one 4D file for all.
        segmentation: None for cases to predict.
        patient: Shared by all cases of a patient, across sessions and editions.
        grade: HGG or LGG, where the source says so.
        states: File → size in bytes and time of the last change in ns, when it was found.
        problems: Why the case cannot be converted.
        remarks: What is unusual, but handled.
    """

    identifier: str
    images: dict[str, Path]
    segmentation: Path | None
    patient: str
    grade: str | None = None
    states: Mapping[Path, tuple[int, int]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.identifier


@dataclass
class _Found:
    """The files of one case identifier in one folder, during the search."""

    identifier: str
    folder: Path
    files: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    remarks: list[str] = field(default_factory=list)


@disk_errors_named("read")
def find_cases(edition: Edition, source: Path) -> list[Case]:
    """Search a folder and its subfolders for the cases of an edition, sorted by identifier.

    Hidden files, macOS' `._` files, tables beside the cases, and links to a parent folder are
    ignored.

    Raises:
        UserError: The folder does not exist; it or a subfolder cannot be read; or it holds no case,
            the files of a single case, cases of another edition, or a name mapping table that names
            no case.
    """
    source = Path(source)
    if not source.is_dir():
        raise UserError(f"{source} is not a folder; expected the unzipped {edition.name} download")
    found = _find_4d(edition, source) if edition.four_dimensional else _find_3d(edition, source)
    if not any(item.files for item in found):
        raise UserError(_nothing_found(edition, source))
    if not edition.four_dimensional and any(item.folder == source for item in found):
        raise UserError(
            f"{source} holds the files of case {found[0].identifier} itself; name the parent "
            "folder, which holds one folder per case"
        )
    _refuse_other_editions(edition, found)
    patients = Patients(source)
    by_name = defaultdict(list)
    for item in found:
        by_name[item.identifier.lower()].append(item)
    cases = [
        _to_case(edition, source, items, patients)
        for _, items in sorted(by_name.items(), key=lambda pair: pair[1][0].identifier)
    ]
    return cases if edition.four_dimensional else _with_lost_segmentations_named(cases)


def changed_files(case: Case) -> list[Path]:
    """The files of a case that have changed or disappeared since the case was found."""
    return [path for path, state in case.states.items() if _state_of(path) != state]


def _find_3d(edition: Edition, source: Path) -> list[_Found]:
    roles = {suffix: channel for channel, suffix in edition.suffixes.items()}
    roles[edition.segmentation_suffix] = "seg"
    suffixes = "|".join(sorted(roles, key=len, reverse=True))
    pattern = re.compile(rf"(?P<case>.+)[_-](?P<suffix>{suffixes})", re.IGNORECASE | re.DOTALL)
    # identifiers end in digits
    case_name = re.compile(rf"{re.escape(edition.case_prefix)}[\w-]*\d", re.IGNORECASE)
    found: dict[tuple[Path, str], _Found] = {}
    strays: dict[Path, list[Path]] = defaultdict(list)
    named_like_cases = []
    for folder, names in walk(source):
        places = [folder, *(folder / name for name in names)]
        named_like_cases += [path for path in places if case_name.fullmatch(path.name)]
        for path, stem in images_among(folder, names):
            match = pattern.fullmatch(stem)
            if match is None:
                if STRAY_SEGMENTATION.fullmatch(path.name):
                    strays[folder].append(path)
                continue
            key = folder, match["case"].lower()
            item = found.setdefault(key, _Found(match["case"], folder))
            item.files[roles[match["suffix"].lower()]].append(path)
            if match["suffix"] != match["suffix"].lower():
                item.remarks.append(f"{path.name} has a suffix in capitals")
    for item in found.values():
        others = strays[item.folder]
        if "seg" not in item.files and len(others) == 1:
            item.files["seg"] = others
            item.remarks.append(f"the segmentation is named {others[0].name}")
        elif "seg" not in item.files and others:
            names = [path.name for path in others]
            item.remarks.append(
                f"{' and '.join(names)} are not named after the case and are ignored"
            )
    used = {place for item in found.values() for place in (item.folder, *item.folder.parents)}
    empty = [_Found(path.name, path) for path in named_like_cases if path not in used]
    return [*found.values(), *empty]


def _find_4d(edition: Edition, source: Path) -> list[_Found]:
    found: dict[str, _Found] = {}
    labels: dict[str, Path] = {}
    for path, stem in all_images(source):
        if not stem.lower().startswith(edition.case_prefix.lower()):
            continue
        if path.parent.name == "labelsTr":
            labels[stem] = path
        elif path.parent.name in ("imagesTr", "imagesTs"):
            item = found.setdefault(stem, _Found(stem, path.parent))
            for channel in edition.channels:
                item.files[channel].append(path)
    for stem, path in labels.items():
        item = found.setdefault(stem, _Found(stem, path.parent))
        item.files["seg"].append(path)
    for item in found.values():
        if item.folder.name == "imagesTr" and "seg" not in item.files:
            item.remarks.append("no file of this name in labelsTr")
    return list(found.values())


def _state_of(path: Path) -> tuple[int, int] | None:
    """Size in bytes and time of the last change in ns; None if it is not a file."""
    try:
        state = path.stat()
    except OSError:
        return None
    return (state.st_size, state.st_mtime_ns) if stat.S_ISREG(state.st_mode) else None


def _to_case(edition: Edition, source: Path, items: list[_Found], patients: Patients) -> Case:
    item = items[0]
    files = [path for paths in item.files.values() for path in paths]
    states = {path: state for path in files if (state := _state_of(path)) is not None}
    row = patients.row_of(item.identifier)
    grades = [part.upper() for part in item.folder.relative_to(source).parts] + [
        source.name.upper(),
        row.grade.upper(),
    ]
    sound = {role: [path for path in paths if path in states] for role, paths in item.files.items()}
    return Case(
        identifier=excerpt(item.identifier),
        images={c: sound[c][0] for c in edition.channels if sound.get(c)},
        segmentation=next(iter(sound.get("seg", [])), None),
        patient=patients.patient_of(edition, item.identifier),
        grade=next((grade for grade in grades if grade in GRADES), None),
        states=states,
        problems=tuple(_problems_of(edition, items, states)),
        remarks=tuple(item.remarks),
    )


def _problems_of(
    edition: Edition, items: list[_Found], states: Mapping[Path, object]
) -> Iterator[str]:
    item = items[0]
    if not item.identifier.isprintable():
        yield "its name has characters that cannot be printed, or is not UTF-8; rename its files"
    if len(items) > 1:
        folders = ", ".join(str(other.folder) for other in items)
        yield f"appears in {len(items)} folders: {folders}; expected one"
    if not item.files:
        kind = "holds none of them" if item.folder.is_dir() else "is a file"
        yield f"every file is missing; expected the files in {item.folder}, which {kind}"
        return
    for channel in edition.channels:
        if not item.files.get(channel):
            wanted = f"{item.identifier}{edition.separator}{edition.suffixes[channel]}.nii.gz"
            if edition.four_dimensional:
                wanted = f"../imagesTr/{item.identifier}.nii.gz"
            expected = Path(os.path.normpath(item.folder / wanted))
            yield f"{channel} is missing; expected {expected}"
    for role, files in item.files.items():
        if len(files) > 1:
            names = ", ".join(path.name for path in files)
            yield f"{role} has {len(files)} files: {names}; expected one"
    for path in sorted({path for files in item.files.values() for path in files} - states.keys()):
        kind = "is a broken link" if path.is_symlink() else "is a pipe or device"
        yield f"{path}: {kind}; expected a file"


def _with_lost_segmentations_named(cases: list[Case]) -> list[Case]:
    """Add a remark to each case without a segmentation beside cases that have one."""
    segmented: Counter[Path] = Counter()
    for case in cases:
        if case.segmentation is not None:
            segmented[case.segmentation.parent.parent] += 1
    named = []
    for case in cases:
        beside = {segmented[path.parent.parent] for path in case.images.values()} - {0}
        if case.segmentation is None and beside:
            remark = (
                f"has no segmentation, unlike {max(beside)} cases beside it; it becomes a case to "
                "predict"
            )
            case = replace(case, remarks=(*case.remarks, remark))
        named.append(case)
    return named


def _refuse_other_editions(edition: Edition, found: list[_Found]) -> None:
    own = edition.case_prefix.lower()
    for item in found:
        name = item.identifier.lower()
        if name.startswith(own):
            continue
        others = [e.name for e in EDITIONS.values() if name.startswith(e.case_prefix.lower())]
        if others:
            raise UserError(
                f"{item.folder} holds case {item.identifier}, which belongs to "
                f"{' or '.join(others)}, not to {edition.name} ({edition.case_prefix}…); choose "
                f"that edition, or name a folder that holds {edition.name} only"
            )


def _nothing_found(edition: Edition, source: Path) -> str:
    if edition.four_dimensional:
        expected = f"imagesTr/{edition.case_prefix}NNN.nii.gz and labelsTr"
    else:
        endings = ", ".join(edition.suffixes[channel] for channel in edition.channels)
        expected = (
            f"a folder per case, with files named {edition.case_prefix}… that end in "
            f"{endings} and {edition.segmentation_suffix}, .nii or .nii.gz"
        )
    count = sum(1 for _ in all_images(source))
    held = f"{count} NIfTI files of other names" if count else "no NIfTI file"
    return f"no case of {edition.name} in {source}, which holds {held}; expected {expected}"
