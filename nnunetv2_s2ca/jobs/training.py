"""Cross-validation: training the folds of one or several trainers as jobs, with resumption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_output_folder
from nnunetv2_s2ca.core.lock import Lock, lock_fold, training_in
from nnunetv2_s2ca.core.nnunet import RESULTS, nnunet_folder
from nnunetv2_s2ca.jobs.backends import LocalBackend, SlurmBackend
from nnunetv2_s2ca.jobs.command import NnUNetJob
from nnunetv2_s2ca.jobs.folds import FoldState, Model, fold_state
from nnunetv2_s2ca.jobs.local import run_locally
from nnunetv2_s2ca.jobs.slurm import submit_to_slurm
from nnunetv2_s2ca.jobs.splits import ensure_splits

LOGS = "s2ca_jobs"


@dataclass(frozen=True)
class TrainFold(NnUNetJob):
    """Trains one fold from its last checkpoint, and validates it with probabilities.

    Attributes:
        model: The model.
        fold: Number of the fold.
        device: nnU-Net's `-device`.
    """

    model: Model
    fold: int
    device: str

    def lock(self) -> AbstractContextManager[Lock]:
        """The fold's lock, since two trainings would overwrite each other's checkpoints."""
        return lock_fold(self.model.fold(self.fold))

    def command(self) -> list[str]:
        """The call of `nnUNetv2_train` for the fold's state; empty if the fold is finished."""
        state = fold_state(self.model.fold(self.fold))
        if state is FoldState.FINISHED:
            return []
        return [
            "nnUNetv2_train",
            self.model.dataset,
            self.model.configuration,
            str(self.fold),
            *("-tr", self.model.trainer),
            *("-p", self.model.plans),
            *("-device", self.device),
            "--npz",
            *state.value,
        ]


@dataclass(frozen=True)
class CrossValidation:
    """The outcome of a cross-validation.

    Attributes:
        skipped: Names of the folds that were finished before.
        failed: Name of each fold that failed or could not start → its log, or the reason.
        queued: Name of each fold on SLURM → its job id.
    """

    skipped: list[str]
    failed: dict[str, str]
    queued: dict[str, str]


def cross_validate(
    models: Sequence[Model],
    backend: LocalBackend | SlurmBackend,
    *,
    device: str,
    folds: Sequence[int] | None = None,
    report: Callable[[str], None] = print,
) -> CrossValidation:
    """Train and validate the folds of models of one dataset; finished folds are skipped.

    Args:
        models: The models, all of one dataset; duplicates are ignored.
        backend: Where to run. The call waits for jobs on this machine, but not on SLURM.
        device: nnU-Net's `-device`.
        folds: The folds, duplicates ignored; `None` for all of the split.
        report: Receives a line for each event.

    Raises:
        UserError: The dataset is not preprocessed, its split is damaged or lacks a fold, the
            results cannot be written, or SLURM cannot be reached.
    """
    results = nnunet_folder(RESULTS, missing_ok=True)
    check_output_folder(results)
    number = ensure_splits(models[0])
    chosen = range(number) if folds is None else list(dict.fromkeys(folds))
    if any(fold not in range(number) for fold in chosen):
        raise UserError(f"the split of {models[0].dataset} has the folds 0 to {number - 1}")
    jobs: list[NnUNetJob] = []
    skipped, failed = [], {}
    for model in dict.fromkeys(models):
        for fold in chosen:
            job = TrainFold(
                name=f"{model.trainer} {model.plans} {model.configuration} fold {fold}",
                cores=backend.cores,
                model=model,
                fold=fold,
                device=device,
            )
            if fold_state(model.fold(fold)) is FoldState.FINISHED:
                report(f"{job.name}: already finished")
                skipped.append(job.name)
            elif isinstance(backend, LocalBackend) and (busy := training_in(model.fold(fold))):
                report(f"{job.name}: {busy}")
                failed[job.name] = busy
            else:
                jobs.append(job)
    logs = results / models[0].dataset / LOGS
    if isinstance(backend, LocalBackend):
        failed |= run_locally(jobs, backend, logs=logs, report=report) if jobs else {}
        return CrossValidation(skipped, failed, {})
    name = f"s2ca {models[0].dataset}"
    queued = submit_to_slurm(jobs, backend, logs=logs, name=name, report=report)
    return CrossValidation(skipped, failed, queued)
