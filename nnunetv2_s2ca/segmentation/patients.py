"""Finding the patients in a folder by the names of their files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunetv2_s2ca.brats.sequences import sequence_named
from nnunetv2_s2ca.core.errors import UserError, disk_errors_named
from nnunetv2_s2ca.dataset_conversion.walk import all_images

# CASE_t1ce, CASE-t1c, and nnU-Net's CASE_0001
NAME = re.compile(r"(?P<case>.+)[_-](?P<kind>[A-Za-z0-9]+)", re.DOTALL)
CHANNEL = re.compile(r"\d{4}")


@dataclass
class Patient:
    """The files of one patient, or of one visit.

    Attributes:
        name: The case identifier, which names the result.
        files: Sequence, one of `SEQUENCES`, → file.
        problems: Why it cannot be segmented.
    """

    name: str
    files: dict[str, Path] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@disk_errors_named("read")
def find_patients(source: Path, channels: Sequence[str]) -> list[Patient]:
    """All patients in a folder and its subfolders, sorted by name.

    Files are named as BraTS does, in any edition (`CASE_t1ce.nii.gz`, `CASE-t1c.nii.gz`), or as
    nnU-Net does (`CASE_0001.nii.gz`). Other files, such as segmentations, are ignored.

    Args:
        source: The folder.
        channels: The sequences of nnU-Net's channels 0, 1 …

    Raises:
        UserError: There is no patient.
    """
    if not source.is_dir():
        raise UserError(f"{source} is not a folder; expected one with the files of patients")
    patients: dict[str, Patient] = defaultdict(lambda: Patient(""))
    for path, stem in all_images(source):
        match = NAME.fullmatch(stem)
        sequence = match and _sequence(match["kind"], channels)
        if match is None or not sequence:
            continue
        patient = patients[match["case"]]
        patient.name = match["case"]
        other = patient.files.setdefault(sequence, path)
        if other != path:
            patient.problems.append(f"{other} and {path} are both its {sequence}; remove one")
    if not patients:
        raise UserError(
            f"{source} holds no patient; expected NIfTI files named CASE_t1.nii.gz, CASE_t1ce, "
            "CASE_t2 and CASE_flair, or as another edition of BraTS or nnU-Net names them"
        )
    return [patients[name] for name in sorted(patients)]


def _sequence(kind: str, channels: Sequence[str]) -> str | None:
    if CHANNEL.fullmatch(kind):
        return channels[int(kind)] if int(kind) < len(channels) else None
    return sequence_named(kind)
