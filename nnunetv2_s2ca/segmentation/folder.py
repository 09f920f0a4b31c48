"""Many patients in one folder, with the model loaded once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_output_folder, write_text
from nnunetv2_s2ca.core.folders import check_apart
from nnunetv2_s2ca.segmentation.model import LoadedModel
from nnunetv2_s2ca.segmentation.outputs import Outputs
from nnunetv2_s2ca.segmentation.patient import Segmented, SegmentOptions, segment_patient
from nnunetv2_s2ca.segmentation.patients import Patient, find_patients


@dataclass(frozen=True)
class Places:
    """Where the results of many patients go.

    Attributes:
        segmentations: Folder for `CASE.nii.gz`.
        report: JSON file for all patients, or None.
        previews: Folder for `CASE.png`, or None.
        keep: Leave patients out who have a segmentation.
    """

    segmentations: Path
    report: Path | None = None
    previews: Path | None = None
    keep: bool = False

    def of(self, patient: Patient) -> Outputs:
        """The outputs of one patient."""
        picture = self.previews / f"{patient.name}.png" if self.previews else None
        return Outputs(self.segmentations / f"{patient.name}.nii.gz", preview=picture)


@dataclass
class Results:
    """What became of each patient, by case identifier."""

    segmented: dict[str, Segmented] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    def as_json(self) -> str:
        """The report: one entry a patient."""
        entries: dict[str, Any] = {name: done.report for name, done in self.segmented.items()}
        entries |= {name: {"error": reason} for name, reason in self.failed.items()}
        return json.dumps({name: entries[name] for name in sorted(entries)}, indent=2) + "\n"


def segment_patients(
    source: Path,
    places: Places,
    model: LoadedModel,
    options: SegmentOptions,
    *,
    say: Callable[[str], None] = print,
) -> Results:
    """Segment the patients in a folder one after the other; a bad one does not stop the others.

    Args:
        source: The folder.
        places: For the results.
        model: The model.
        options: What to make of each patient.
        say: Receives the warnings and a line for each patient.

    Raises:
        UserError: There is no patient, or an output cannot be written.
    """
    patients = find_patients(source, model.sequences)
    folders = [folder for folder in (places.segmentations, places.previews) if folder is not None]
    for folder in folders:
        check_output_folder(folder)
        check_apart(folder, *(path for patient in patients for path in patient.files.values()))
    _check_report(places.report, overwrite=options.overwrite)
    if places.keep:
        waiting = [patient for patient in patients if not places.of(patient).segmentation.exists()]
    else:
        waiting = patients
    names = {patient.name for patient in waiting}
    results = Results(skipped=tuple(p.name for p in patients if p.name not in names))
    for number, patient in enumerate(waiting, 1):
        say(f"[{number}/{len(waiting)}] {patient.name}")
        try:
            if patient.problems:
                raise UserError("; ".join(patient.problems))
            done = segment_patient(patient.files, places.of(patient), model, options, say=say)
        except UserError as error:
            results.failed[patient.name] = str(error)
            say(f"error: {error}")
        else:
            results.segmented[patient.name] = done
            say(str(done))
        if places.report is not None:
            write_text(places.report, results.as_json())
    return results


def _check_report(report: Path | None, *, overwrite: bool) -> None:
    if report is None:
        return
    if report.suffix.lower() != ".json":
        raise UserError(f"{report}: expected a name that ends in .json (`report`)")
    if report.exists() and not overwrite:
        raise UserError(
            f"{report} exists; pass `overwrite=True` to replace it, or name another file (`report`)"
        )
    check_output_folder(report.parent)
