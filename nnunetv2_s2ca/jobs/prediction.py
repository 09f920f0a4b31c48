"""Predicting a folder by several calls of `nnUNetv2_predict`, each with its share of the cases."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_output_folder
from nnunetv2_s2ca.core.lock import output_lock
from nnunetv2_s2ca.core.nifti import FILE_ENDINGS
from nnunetv2_s2ca.jobs.backends import LocalBackend, SlurmBackend
from nnunetv2_s2ca.jobs.command import NnUNetJob
from nnunetv2_s2ca.jobs.finished import without_prediction
from nnunetv2_s2ca.jobs.local import run_locally
from nnunetv2_s2ca.jobs.slurm import submit_to_slurm


@dataclass(frozen=True)
class PredictPart(NnUNetJob):
    """Predicts every n-th case; a second run continues after the last finished one.

    Attributes:
        source: Folder of images.
        target: Folder for predictions.
        options: The model and further options of `nnUNetv2_predict`.
        part: Number of this part, from 0.
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

    Complete predictions in `target` are kept, as by nnU-Net's `--continue_prediction`; ones
    that were cut off are removed and predicted again. If none is missing, no job is started. A lock
    keeps other calls from predicting into the folder, and local jobs end with this process.

    Args:
        source: Folder of images, as nnU-Net names them.
        target: Folder for predictions.
        backend: Where to run. The call waits for jobs on this machine, but not on SLURM.
        options: The model and further options of `nnUNetv2_predict`.
        parts: Number of jobs.
        report: Receives a line for each event.

    Returns:
        Name of each failed job → its log.

    Raises:
        UserError: The source has no images, the target cannot be written, another call is
            predicting into it, or cases are missing after all jobs have ended.
    """
    cases = _cases(source)
    check_output_folder(target)
    with output_lock(target):
        probabilities = "--save_probabilities" in options
        missing = without_prediction(cases, target, probabilities=probabilities, report=report)
        if not missing:
            report(f"{len(cases)} cases are in {target}")
            return {}
        local = isinstance(backend, LocalBackend)
        parts = min(parts, len(cases))
        jobs = [
            PredictPart(
                name=f"part {part + 1} of {parts}",
                cores=backend.cores,
                owner=os.getpid() if local else None,
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
            missing = without_prediction(
                missing, target, probabilities=probabilities, report=report
            )
            if missing:
                raise UserError(
                    f"{len(missing)} cases of {source} have no prediction in {target}, first "
                    f"{missing[0]}"
                )
            report(f"{len(cases)} cases are in {target}")
        return failed


def _cases(folder: Path) -> set[str]:
    """Case identifiers of the images in a folder, `<case>_0000.nii.gz` and so on."""
    names = [path.name for path in folder.glob("*") if path.name.endswith(FILE_ENDINGS)]
    found = {match[1] for name in names if (match := re.match(r"(.+)_\d{4}\.", name))}
    if not found:
        raise UserError(f"{folder} holds no images; expected CASE_0000.nii.gz and so on")
    return found
