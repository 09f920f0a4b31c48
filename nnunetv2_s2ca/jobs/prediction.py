"""Predictions of many cases by several calls of `nnUNetv2_predict`, each with its part."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.nifti import FILE_ENDINGS
from nnunetv2_s2ca.jobs.backends import LocalBackend, SlurmBackend
from nnunetv2_s2ca.jobs.command import NnUNetJob
from nnunetv2_s2ca.jobs.local import run_locally
from nnunetv2_s2ca.jobs.slurm import submit_to_slurm


@dataclass(frozen=True)
class PredictPart(NnUNetJob):
    """Predicts every n-th case; a second run goes on after the last finished one.

    Attributes:
        source: Folder of images.
        target: Folder for predictions.
        options: The model, and what else `nnUNetv2_predict` is to be told.
        part: Which part.
        parts: Number of parts.
    """

    source: Path
    target: Path
    options: tuple[str, ...]
    part: int
    parts: int

    def command(self) -> list[str]:
        """The call of `nnUNetv2_predict`."""
        return [
            "nnUNetv2_predict",
            *("-i", str(self.source)),
            *("-o", str(self.target)),
            *self.options,
            *("-num_parts", str(self.parts)),
            *("-part_id", str(self.part)),
            "--continue_prediction",
        ]


def predict_in_parts(
    source: Path,
    target: Path,
    backend: LocalBackend | SlurmBackend,
    *,
    options: Sequence[str],
    parts: int,
    report: Callable[[str], None] = print,
) -> dict[str, str]:
    """Predict the cases of a folder by several jobs.

    What `target` holds is taken as done, as by nnU-Net's `--continue_prediction`; where it holds
    all, nothing is started.

    Args:
        source: Folder of images, as nnU-Net names them.
        target: Folder for predictions.
        backend: Where. On this machine the call waits for the jobs, on SLURM it does not.
        options: The model, and what else `nnUNetv2_predict` is to be told.
        parts: Number of jobs.
        report: Takes one line for each thing that happens.

    Returns:
        For each failed job, by name, where its log is.

    Raises:
        UserError: The source has no images, or cases are missing once all jobs are done.
    """
    cases = _cases(source)
    if not _missing(cases, target, options):
        report(f"{len(cases)} cases are in {target}")
        return {}
    parts = min(parts, len(cases))
    jobs = [
        PredictPart(
            name=f"part {part + 1} of {parts}",
            cores=backend.cores,
            source=source.resolve(),
            target=target.resolve(),
            options=tuple(options),
            part=part,
            parts=parts,
        )
        for part in range(parts)
    ]
    logs = target / "s2ca_jobs"
    if isinstance(backend, SlurmBackend):
        submit_to_slurm(jobs, backend, logs=logs, name="s2ca predict", report=report)
        return {}
    failed = run_locally(jobs, backend, logs=logs, report=report)
    if not failed:
        if missing := _missing(cases, target, options):
            raise UserError(
                f"{len(missing)} cases of {source} have no prediction in {target}, first "
                f"{missing[0]}"
            )
        report(f"{len(cases)} cases are in {target}")
    return failed


def _missing(cases: set[str], target: Path, options: Sequence[str]) -> list[str]:
    """The cases that nnU-Net would still predict, by its rule for `--continue_prediction`."""
    there = {path.name for path in target.glob("*")}
    wanted: list[tuple[str, ...]] = [FILE_ENDINGS]
    if "--save_probabilities" in options:
        wanted.append((".npz",))
    return sorted(
        case
        for case in cases
        if not all(any(case + ending in there for ending in endings) for endings in wanted)
    )


def _cases(folder: Path) -> set[str]:
    """Case identifiers of a folder of images, `<case>_0000.nii.gz` and so on."""
    names = [path.name for path in folder.glob("*") if path.name.endswith(FILE_ENDINGS)]
    found = {match[1] for name in names if (match := re.match(r"(.+)_\d{4}\.", name))}
    if not found:
        raise UserError(f"{folder} holds no images; expected CASE_0000.nii.gz and so on")
    return found
