"""The record of a dataset's edition and cases, which splits and export read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunetv2_s2ca.brats.editions import Edition, edition_named
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json, write_text
from nnunetv2_s2ca.core.text import in_few_words

RECORD = "s2ca_source.json"  # in the dataset's folder


@dataclass(frozen=True)
class RecordedCase:
    """A case of the dataset.

    Attributes:
        patient: Cases of one patient share it.
        grade: HGG or LGG, where the source says so.
        labels: The source's labels that occur in the segmentation; None without one.
    """

    patient: str
    grade: str | None
    labels: tuple[int, ...] | None


@dataclass(frozen=True)
class Record:
    """What a dataset was converted from.

    Attributes:
        edition: The edition of the source.
        cases: Case identifier → what is known about the case.
    """

    edition: Edition
    cases: dict[str, RecordedCase]


def write_record(
    dataset: Path, settings: Mapping[str, Any], cases: Mapping[str, RecordedCase]
) -> None:
    """Write the record of a dataset: the settings of its conversion, and its cases."""
    content = {**settings, "cases": {name: asdict(case) for name, case in cases.items()}}
    write_text(dataset / RECORD, json.dumps(content, indent=1))


def read_record(dataset: Path) -> Record:
    """Read the record of a dataset.

    Raises:
        UserError: The dataset was not converted by this program, or its record is damaged.
    """
    path = dataset / RECORD
    if not path.exists():
        raise UserError(
            f"{dataset} has no {RECORD}, so it was not made by `s2ca convert`; convert it first"
        )
    content = read_json(path)
    try:
        name, cases = content.get("edition"), content.get("cases")
        if not isinstance(name, str) or not isinstance(cases, dict):
            raise ValueError("it lacks the name `edition` or the object `cases`")
        edition = edition_named(name)
        return Record(edition, {case: _parse(case, cases[case], edition) for case in cases})
    except (ValueError, UserError) as error:
        raise UserError(f"{path} is damaged: {error}. Convert the dataset again") from error


def _parse(name: str, content: object, edition: Edition) -> RecordedCase:
    if not isinstance(content, dict):
        raise ValueError(f"case {name} is {in_few_words(content)}; expected an object")
    patient, grade, labels = (content.get(key) for key in ("patient", "grade", "labels"))
    if not isinstance(patient, str) or not patient:
        raise ValueError(f"case {name} has the patient {in_few_words(patient)}; expected a name")
    if not isinstance(grade, str | None):
        raise ValueError(
            f"case {name} has the grade {in_few_words(grade)}; expected HGG, LGG or null"
        )
    if labels is None:
        return RecordedCase(patient, grade, None)
    known = list(edition.labels)
    if not isinstance(labels, list) or not all(
        type(label) is int and label in known for label in labels
    ):
        raise ValueError(
            f"case {name} has the labels {in_few_words(labels)}; expected some of {known}"
        )
    return RecordedCase(patient, grade, tuple(labels))
