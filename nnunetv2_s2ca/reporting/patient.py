"""Results of `s2ca segment`, from the JSON file of its `--report`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json
from nnunetv2_s2ca.core.nifti import FILE_ENDINGS
from nnunetv2_s2ca.reporting.case_files import CaseFiles, sequence_name
from nnunetv2_s2ca.reporting.svg import attributes

DEEPEST = 6  # levels of nested objects that are shown
NUMBER = "mean_disagreement"  # the one number a case among the uncertainties


@dataclass
class Patient:
    """A patient.

    Attributes:
        name: of the segmentation, or of the patient in a folder.
        rows: heading, text and attributes of each entry.
        warnings: what `s2ca segment` warned of.
        files: segmentation and scans, as far as they are there.
        views: pictures, as the template takes them.
        missing: a sentence for each thing that could not be shown.
    """

    name: str
    rows: list[tuple[str, str, Markup]]
    warnings: list[str]
    files: CaseFiles
    views: Sequence[Mapping[str, Any]] = ()
    missing: list[str] = field(default_factory=list)


def read_patients(path: Path) -> list[Patient]:
    """Read a report of `s2ca segment`, of one patient or of a folder of them.

    Raises:
        UserError: It is no such file.
    """
    found = [_patient(name, content) for name, content in entries_of(read_json(path)).items()]
    if not found:
        raise UserError(
            f"{path} is not a report of `s2ca segment`; expected `volumes_ml` of one or more"
        )
    return found


def entries_of(content: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Case → its entry in a report of `s2ca segment`; empty if it is something else."""
    if "volumes_ml" in content:
        return {_stem(Path(str(content.get("segmentation", "patient")))): content}
    return {
        name: entry
        for name, entry in content.items()
        if isinstance(entry, dict) and "volumes_ml" in entry
    }


def uncertainty_in(entry: Mapping[str, Any]) -> float | None:
    """The mean disagreement of folds and mirrorings; None where it was not asked for."""
    found = entry.get("uncertainty")
    value = found.get(NUMBER) if isinstance(found, dict) else None
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if known and math.isfinite(value) else None  # type: ignore[arg-type]


def _patient(name: str, entry: Mapping[str, Any]) -> Patient:
    warnings = entry.get("warnings")
    rows = []
    for heading, value in _rows(entry, ""):
        number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        rows.append((heading, text, attributes({"entry": heading, "value": number})))
    patient = Patient(
        name,
        rows,
        [str(line) for line in warnings] if isinstance(warnings, list) else [],
        CaseFiles(name),
    )
    patient.files = _files(name, entry, patient.missing)
    return patient


def _files(name: str, entry: Mapping[str, Any], missing: list[str]) -> CaseFiles:
    segmentation = Path(str(entry.get("segmentation", "")))
    if not segmentation.is_file():
        missing.append(f"Pictures: the segmentation {segmentation} was not found.")
        return CaseFiles(name)
    scans = entry.get("scans")
    images = {
        sequence_name(sequence): Path(str(path))
        for sequence, path in (scans.items() if isinstance(scans, dict) else ())
        if str(path).endswith(FILE_ENDINGS) and Path(str(path)).is_file()
    }
    if not images:
        missing.append("Pictures: no scan in NIfTI was found, so outlines are drawn on black.")
    return CaseFiles(name, prediction=segmentation, images=images)


def _rows(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if name == "warnings":
        return
    if isinstance(value, dict) and depth < DEEPEST:
        for key, inner in value.items():
            yield from _rows(inner, f"{name} › {key}" if name else str(key), depth + 1)
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value)) or "–"
    else:
        yield name, "–" if value is None else value


def _stem(path: Path) -> str:
    ending = next((ending for ending in FILE_ENDINGS if path.name.endswith(ending)), "")
    return path.name.removesuffix(ending)
