"""Check every case before anything is written: `s2ca check`, and the first step of `convert`."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from nnunetv2_s2ca.brats.editions import Edition
from nnunetv2_s2ca.core.workers import map_cases
from nnunetv2_s2ca.dataset_conversion.examine import CheckedCase, examine_case
from nnunetv2_s2ca.dataset_conversion.patients import GRADES
from nnunetv2_s2ca.dataset_conversion.source import find_cases
from nnunetv2_s2ca.dataset_conversion.walk import what_is_passed_over

# rows of the table, and the pattern of the problems that each counts
KINDS = {
    "files missing": r"is missing; expected",
    "in several folders or files": r"; expected one$",
    "labels off": r"\blabels?\b",
    "geometry off": r"\baffine\b|has the shape|has voxels of|direction cosines",
    "NaN or infinite": r"NaN or infinite",
}


def check_cases(
    edition: Edition,
    source: Path,
    *,
    processes: int | None = None,
    deep: bool = True,
    label_files: bool = False,
) -> list[CheckedCase]:
    """Find the cases of a source and examine their files.

    Args:
        edition: Edition of the source.
        source: Folder of the download.
        processes: Worker processes; all cores if None.
        deep: Read all voxels of the images, which finds NaN and damage; else only headers and
            lengths.
        label_files: Also return the segmentations in nnU-Net's labels.

    Raises:
        UserError: No case is found; see `find_cases`.
    """
    cases = find_cases(edition, source)
    examine = partial(examine_case, edition=edition, deep=deep, label_files=label_files)
    return map_cases(examine, cases, processes=processes, title="check")


def describe(edition: Edition, checked: Sequence[CheckedCase], *, source: Path) -> str:
    """The report of a check: totals, each case's problems, and oddities that are handled."""
    cases = [item.case for item in checked]
    bad = [case for case in cases if case.problems]
    patients = Counter(case.patient for case in cases)
    several = {name for name, count in patients.items() if count > 1}
    kinds = Counter(kind for case in bad for kind in {_kind_of(text) for text in case.problems})
    grades = Counter(case.grade for case in cases if case.grade)
    rows = [
        ("cases", str(len(cases))),
        ("complete", str(len(cases) - len(bad))),
        ("with segmentation", str(sum(case.segmentation is not None for case in cases))),
        ("without (to predict)", str(sum(case.segmentation is None for case in cases))),
        ("patients", str(len(patients))),
        ("patients with several cases", str(len(several))),
        *((f"grade {grade}", str(count)) for grade, count in sorted(grades.items())),
        ("with problems", str(len(bad))),
        *((f"  {kind}", str(count)) for kind, count in sorted(kinds.items())),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{edition.name}:", *(f"  {name:{width}}  {value}" for name, value in rows)]
    for case in cases:
        lines += [f"  problem  {case.identifier}: {problem}" for problem in case.problems]
    for case in cases:
        lines += [f"  note     {case.identifier}: {remark}" for remark in case.remarks]
    for patient in sorted(several):
        names = ", ".join(case.identifier for case in cases if case.patient == patient)
        lines.append(f"  note     patient {patient} has several cases: {names}")
    folders = {path.parent.parent for case in cases for path in case.images.values()}
    common = Path(os.path.commonpath(folders)) if folders else source
    if not edition.four_dimensional and common != source and common.name.upper() not in GRADES:
        lines.append(f"  note     all cases lie below {common}")
    lines += [f"  note     {remark}" for remark in what_is_passed_over(source)]
    return "\n".join(lines)


def _kind_of(problem: str) -> str:
    """The row of the table under which a problem is counted."""
    return next((kind for kind, part in KINDS.items() if re.search(part, problem)), "unreadable")
