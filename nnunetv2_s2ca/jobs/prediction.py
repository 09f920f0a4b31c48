"""Predictions of many cases by several calls of `nnUNetv2_predict`, each with its part."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError, disk_errors_named
from nnunetv2_s2ca.core.files import check_output_folder, check_regular_file
from nnunetv2_s2ca.core.lock import output_lock
from nnunetv2_s2ca.core.nifti import FILE_ENDINGS, READ_ERRORS, voxel_pieces
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

    A whole prediction in `target` is taken as done, as by nnU-Net's `--continue_prediction`; an
    empty or damaged one is removed and made again. Where all are there, nothing is started. No
    second call predicts into the folder meanwhile, and the jobs end with this process.

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
        UserError: The source has no images, the target cannot be written or another call predicts
            into it, or cases are missing once all jobs are done.
    """
    cases = _cases(source)
    check_output_folder(target)
    with output_lock(target):
        missing = _without_prediction(cases, target, options, report=report)
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
            if missing := _without_prediction(missing, target, options, report=report):
                raise UserError(
                    f"{len(missing)} cases of {source} have no prediction in {target}, first "
                    f"{missing[0]}"
                )
            report(f"{len(cases)} cases are in {target}")
        return failed


def _without_prediction(
    cases: Collection[str],
    target: Path,
    options: Sequence[str],
    *,
    report: Callable[[str], None],
) -> list[str]:
    """The cases to predict; what an interruption has left of them is removed.

    nnU-Net takes any file of the right name for a prediction.
    """
    wanted: list[tuple[str, ...]] = [FILE_ENDINGS]
    if "--save_probabilities" in options:
        wanted.append((".npz",))
    missing = []
    for case in sorted(cases):
        there = [_is_whole_or_removed(target, case, endings, report) for endings in wanted]
        if not all(there):
            missing.append(case)
    return missing


@disk_errors_named("read or removed")
def _is_whole_or_removed(
    target: Path, case: str, endings: Sequence[str], report: Callable[[str], None]
) -> bool:
    there = False
    for path in (target / f"{case}{ending}" for ending in endings):
        if not path.exists():
            continue
        check_regular_file(path)
        if _is_whole(path):
            there = True
        else:
            report(f"{path} is empty or damaged; {case} is predicted again")
            path.unlink()
    return there


def _is_whole(path: Path) -> bool:
    """Whether a file was written to its end."""
    if path.suffix == ".npz":
        return zipfile.is_zipfile(path)  # its directory stands at the end
    try:
        for _ in voxel_pieces(path):
            pass
    except READ_ERRORS:
        return False
    return True


def _cases(folder: Path) -> set[str]:
    """Case identifiers of a folder of images, `<case>_0000.nii.gz` and so on."""
    names = [path.name for path in folder.glob("*") if path.name.endswith(FILE_ENDINGS)]
    found = {match[1] for name in names if (match := re.match(r"(.+)_\d{4}\.", name))}
    if not found:
        raise UserError(f"{folder} holds no images; expected CASE_0000.nii.gz and so on")
    return found
