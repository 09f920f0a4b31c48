"""Find the cases of a BraTS download: which files belong together, and what is odd about them."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from nnunetv2_s2ca.brats.editions import EDITIONS, Edition
from nnunetv2_s2ca.core.errors import UserError, disk_errors_named

IMAGE_NAME = re.compile(r"(?P<stem>.+)\.nii(\.gz)?", re.IGNORECASE)
GRADES = ("HGG", "LGG")
NAME_MAPPING = "*name_mapping*.csv"
# BraTS20_Training_355 was published with its segmentation under another name
STRAY_SEGMENTATION = re.compile(r".+_segm\.nii(\.gz)?", re.IGNORECASE)


@dataclass(frozen=True)
class Case:
    """The files of one case.

    Attributes:
        identifier: as the source spells it; nnU-Net's case identifier, too.
        images: channel → file; for the MSD one 4D file for all.
        segmentation: None for cases to predict.
        patient: cases of one patient share it, sessions and editions included.
        grade: HGG or LGG, where the source tells.
        problems: why the case cannot be converted.
        remarks: oddities that are dealt with.
    """

    identifier: str
    images: dict[str, Path]
    segmentation: Path | None
    patient: str
    grade: str | None = None
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass
class _Found:
    """What belongs to one case identifier in one folder, while the search goes on."""

    identifier: str
    folder: Path
    files: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    remarks: list[str] = field(default_factory=list)


@disk_errors_named("read")
def find_cases(edition: Edition, source: Path) -> list[Case]:
    """Search a folder and all below it for the cases of an edition, sorted by identifier.

    Hidden files, macOS' `._` files and tables beside the cases are passed over.

    Raises:
        UserError: if the folder does not exist, cannot be read, or one below it cannot, or if it
            holds no case, a single case on the wrong level, cases of another edition, or a name
            mapping table that names no case.
    """
    source = Path(source)
    if not source.is_dir():
        raise UserError(f"{source} is no folder; expected the unzipped {edition.name} download")
    found = _find_4d(edition, source) if edition.four_dimensional else _find_3d(edition, source)
    if not found:
        raise UserError(_nothing_found(edition, source))
    if not edition.four_dimensional and any(item.folder == source for item in found):
        raise UserError(
            f"{source} holds the files of case {found[0].identifier} themselves; give the folder "
            f"above, which has one folder for each case"
        )
    _refuse_other_editions(edition, found)
    mapping = _read_name_mapping(source)
    by_name = defaultdict(list)
    for item in found:
        by_name[item.identifier.lower()].append(item)
    patients = _Patients()
    for row in mapping.values():
        patients.join(row.names)
    return [
        _to_case(edition, source, items, mapping, patients)
        for _, items in sorted(by_name.items(), key=lambda pair: pair[1][0].identifier)
    ]


def what_is_passed_over(source: Path) -> list[str]:
    """What lies about in a download and is not read, one line for each kind."""
    counts = Counter(
        "hidden files of macOS and others" if path.name.startswith(".") else "tables"
        for path in source.rglob("*")
        if path.is_file()
        and (path.name.startswith(".") or path.suffix.lower() in (".csv", ".xlsx", ".xls"))
        and not fnmatch(path.name, NAME_MAPPING)
    )
    return [f"{count} {kind} passed over" for kind, count in sorted(counts.items())]


class _Patients:
    """Which names are one patient's: those that any row of a name mapping has together."""

    def __init__(self) -> None:
        self.parents: dict[str, str] = {}
        self.spelling: dict[str, str] = {}

    def join(self, names: Sequence[str]) -> None:
        first = self._root(names[0])
        for name in names[1:]:
            self.parents[self._root(name)] = first

    def name_of(self, name: str) -> str:
        """One name for all that were joined to it, whatever their capitals."""
        return self.spelling[self._root(name)]

    def _root(self, name: str) -> str:
        key = name.casefold()
        self.spelling.setdefault(key, name)
        while (parent := self.parents.setdefault(key, key)) != key:
            key = parent
        return key


class _MappingRow(NamedTuple):
    grade: str
    names: tuple[str, ...]  # of the patient


def patient_of(edition: Edition, identifier: str) -> str:
    """The patient of a case, from its identifier.

    BraTS19_CBICA_AAB_1 → CBICA_AAB; BraTS-GLI-00005-001 → BraTS-GLI-00005; where an edition's
    identifiers have no session, the identifier itself.
    """
    if edition.four_dimensional:
        return identifier
    if re.fullmatch(r"brats-.+-\d+-\d+", identifier, re.IGNORECASE):
        return identifier.rpartition("-")[0]
    match = re.fullmatch(r"brats1[789]_(.+)_\d+", identifier, re.IGNORECASE)
    return match[1] if match else identifier


def _find_3d(edition: Edition, source: Path) -> list[_Found]:
    roles = {suffix: channel for channel, suffix in edition.suffixes.items()}
    roles[edition.segmentation_suffix] = "seg"
    suffixes = "|".join(sorted(roles, key=len, reverse=True))
    pattern = re.compile(rf"(?P<case>.+)[_-](?P<suffix>{suffixes})", re.IGNORECASE)
    found: dict[tuple[Path, str], _Found] = {}
    strays: dict[Path, list[Path]] = defaultdict(list)
    for path, stem in _walk(source):
        match = pattern.fullmatch(stem)
        if match is None:
            if STRAY_SEGMENTATION.fullmatch(path.name):
                strays[path.parent].append(path)
            continue
        key = path.parent, match["case"].lower()
        item = found.setdefault(key, _Found(match["case"], path.parent))
        item.files[roles[match["suffix"].lower()]].append(path)
        if match["suffix"] != match["suffix"].lower():
            item.remarks.append(f"{path.name} is spelled in capitals")
    for item in found.values():
        if "seg" not in item.files and len(strays[item.folder]) == 1:
            item.files["seg"] = strays[item.folder]
            item.remarks.append(f"segmentation is called {strays[item.folder][0].name}")
    return list(found.values())


def _find_4d(edition: Edition, source: Path) -> list[_Found]:
    found: dict[str, _Found] = {}
    labels: dict[str, Path] = {}
    for path, stem in _walk(source):
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


def _walk(source: Path) -> Iterator[tuple[Path, str]]:
    """All NIfTI files below a folder, with their names less the ending."""
    for folder, folders, files in os.walk(source, onerror=_raise, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in sorted(files):
            match = IMAGE_NAME.fullmatch(name)
            path = Path(folder, name)
            # some downloads have folders that end in .nii; os.walk lists those elsewhere
            if match is not None and not name.startswith("."):
                yield path, match["stem"]


def _raise(error: OSError) -> None:
    """In place of os.walk's silence about folders that it cannot read."""
    raise error


def _to_case(
    edition: Edition,
    source: Path,
    items: list[_Found],
    mapping: dict[str, _MappingRow],
    patients: _Patients,
) -> Case:
    item = items[0]
    problems = []
    if len(items) > 1:
        folders = ", ".join(str(other.folder) for other in items)
        problems.append(f"stands in {len(items)} folders: {folders}; expected one")
    for channel in edition.channels:
        files = item.files.get(channel, [])
        if not files:
            wanted = f"{item.identifier}{edition.separator}{edition.suffixes[channel]}.nii.gz"
            if edition.four_dimensional:
                wanted = f"../imagesTr/{item.identifier}.nii.gz"
            expected = Path(os.path.normpath(item.folder / wanted))
            problems.append(f"{channel} is missing; expected {expected}")
    problems += [
        f"{role} has {len(files)} files: {', '.join(path.name for path in files)}; expected one"
        for role, files in item.files.items()
        if len(files) > 1
    ]
    row = mapping.get(item.identifier.lower(), _MappingRow("", ()))
    grades = [part.upper() for part in item.folder.relative_to(source).parts] + [
        source.name.upper(),
        row.grade.upper(),
    ]
    segmentations = item.files.get("seg", [])
    return Case(
        identifier=item.identifier,
        images={c: item.files[c][0] for c in edition.channels if item.files.get(c)},
        segmentation=segmentations[0] if segmentations else None,
        patient=patients.name_of((*row.names, patient_of(edition, item.identifier))[0]),
        grade=next((grade for grade in grades if grade in GRADES), None),
        problems=tuple(problems),
        remarks=tuple(item.remarks),
    )


def _read_name_mapping(source: Path) -> dict[str, _MappingRow]:
    """Case identifier → grade and patient's names, from the name mapping tables of 2017 to 2020.

    Each row has the names of one patient in several editions, and perhaps the collection's own
    (TCGA_TCIA_subject_ID), which then comes first. The tables lie in the source, or beside it where
    that is the folder of one grade.

    Raises:
        UserError: A table names no case, as when a spreadsheet program has saved it with other
            separators or in UTF-16; to pass it over would part what belongs to one patient.
    """
    mapping: dict[str, _MappingRow] = {}
    tables = sorted(source.rglob(NAME_MAPPING))
    if source.name.upper() in GRADES:
        tables += sorted(source.resolve().parent.glob(NAME_MAPPING))
    for path in tables:
        if path.name.startswith("."):
            continue
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            try:
                table = _rows_of_name_mapping(file)
            except csv.Error:  # Python 3.10 on the zero bytes of UTF-16
                table = {}
        if not table:
            raise UserError(
                f"{path} names no case; expected the challenge's table in UTF-8, with commas and "
                "columns such as BraTS_2020_subject_ID. Mend it, or take it out of the folder"
            )
        mapping |= table
    return mapping


def _rows_of_name_mapping(lines: Iterable[str]) -> dict[str, _MappingRow]:
    mapping = {}
    for row in csv.DictReader(lines):
        values = {
            key: value.strip()
            for key, value in row.items()
            if key and isinstance(value, str) and value.strip().upper() not in ("", "NA")
        }
        names = [value for key, value in values.items() if key.endswith("_subject_ID")]
        editions = [name for name in names if name.lower().startswith("brats")]
        if not editions:
            continue
        # the rule of 2017 to 2019 leaves the names of 2020 as they are
        patients = [patient_of(EDITIONS["brats2019"], name) for name in editions]
        own = values.get("TCGA_TCIA_subject_ID")
        row_of_case = _MappingRow(values.get("Grade", ""), (*([own] if own else []), *patients))
        for name in editions:
            mapping[name.lower()] = row_of_case
    return mapping


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
                f"that edition, or give a folder that holds {edition.name} alone"
            )


def _nothing_found(edition: Edition, source: Path) -> str:
    if edition.four_dimensional:
        expected = f"imagesTr/{edition.case_prefix}NNN.nii.gz and labelsTr"
    else:
        endings = ", ".join(edition.suffixes[channel] for channel in edition.channels)
        expected = (
            f"a folder for each case, with files named {edition.case_prefix}… that end in "
            f"{endings} and {edition.segmentation_suffix}, .nii or .nii.gz"
        )
    count = sum(1 for _ in _walk(source))
    held = f"{count} NIfTI files, but none named so" if count else "no NIfTI file at all"
    return f"no case of {edition.name} in {source}, which holds {held}; expected {expected}"
