"""Which cases belong to one patient, by their names and the challenge's name mapping tables."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from nnunetv2_s2ca.brats.editions import EDITIONS, Edition
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_regular_file

GRADES = ("HGG", "LGG")
NAME_MAPPING = "*name_mapping*.csv"
# cells for "no such name", as the challenge and programs that saved a table anew write them;
# taken for a name, one would join all its patients
NO_NAME = frozenset({"", "NA", "N/A", "#N/A", "<NA>", "NAN", "NONE", "NULL", "-", "?"})


class MappingRow(NamedTuple):
    """A case's row in a name mapping table."""

    grade: str = ""
    names: tuple[str, ...] = ()  # of the patient


class Patients:
    """Patients of cases; all names in one row of a name mapping table are one patient's."""

    def __init__(self, source: Path) -> None:
        """Read the name mapping tables of a source; raises as `_read_name_mapping` does."""
        self._rows = _read_name_mapping(source)
        self._parents: dict[str, str] = {}
        self._spelling: dict[str, str] = {}
        for row in self._rows.values():
            self._join(row.names)

    def row_of(self, identifier: str) -> MappingRow:
        """A case's row in the tables; an empty one if it has none."""
        return self._rows.get(identifier.lower(), MappingRow())

    def patient_of(self, edition: Edition, identifier: str) -> str:
        """One name for all of a patient's names, whatever their capitals."""
        names = (*self.row_of(identifier).names, patient_of(edition, identifier))
        return self._spelling[self._root(names[0])]

    def _join(self, names: Sequence[str]) -> None:
        first = self._root(names[0])
        for name in names[1:]:
            self._parents[self._root(name)] = first

    def _root(self, name: str) -> str:
        key = name.casefold()
        self._spelling.setdefault(key, name)
        while (parent := self._parents.setdefault(key, key)) != key:
            key = parent
        return key


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


def _read_name_mapping(source: Path) -> dict[str, MappingRow]:
    """Case identifier → grade and patient's names, from the name mapping tables of 2017 to 2020.

    Each row has the names of one patient in several editions, and perhaps in the collection
    (TCGA_TCIA_subject_ID), which then comes first. The tables are in the source, or beside it if
    it is the folder of one grade.

    Raises:
        UserError: A table names no case, for example because a spreadsheet program saved it with
            other separators or in UTF-16; skipping it would split patients across folds.
    """
    mapping: dict[str, MappingRow] = {}
    tables = sorted(source.rglob(NAME_MAPPING))
    if source.name.upper() in GRADES:
        tables += sorted(source.resolve().parent.glob(NAME_MAPPING))
    for path in tables:
        if path.name.startswith("."):
            continue
        check_regular_file(path)
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            try:
                table = _rows_of_name_mapping(file)
            except csv.Error:  # zero bytes of UTF-16 in Python 3.10; a field of 128 kB
                table = {}
        if not table:
            raise UserError(
                f"{path} names no case; expected the challenge's table in UTF-8, with commas and "
                "columns such as BraTS_2020_subject_ID. Fix it, or move it out of the folder"
            )
        mapping |= table
    return mapping


def _rows_of_name_mapping(lines: Iterable[str]) -> dict[str, MappingRow]:
    mapping = {}
    for row in csv.DictReader(lines):
        values = {
            key: value.strip()
            for key, value in row.items()
            if key and isinstance(value, str) and value.strip().upper() not in NO_NAME
        }
        names = [value for key, value in values.items() if key.endswith("_subject_ID")]
        editions = [name for name in names if name.lower().startswith("brats")]
        if not editions:
            continue
        # the rule of 2017 to 2019 does not change the names of 2020
        patients = [patient_of(EDITIONS["brats2019"], name) for name in editions]
        own = values.get("TCGA_TCIA_subject_ID")
        row_of_case = MappingRow(values.get("Grade", ""), (*([own] if own else []), *patients))
        for name in editions:
            mapping[name.lower()] = row_of_case
    return mapping
