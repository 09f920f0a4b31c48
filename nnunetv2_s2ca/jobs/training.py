"""Cross-validations: the folds of one or several trainers as jobs, each where it left off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_output_folder
from nnunetv2_s2ca.core.lock import Lock, lock_fold, training_in
from nnunetv2_s2ca.jobs.backends import LocalBackend, SlurmBackend
from nnunetv2_s2ca.jobs.command import NnUNetJob
from nnunetv2_s2ca.jobs.folds import FoldState, Model, fold_state, nnunet_folder
from nnunetv2_s2ca.jobs.local import run_locally
from nnunetv2_s2ca.jobs.slurm import submit_to_slurm
from nnunetv2_s2ca.jobs.splits import ensure_splits

LOGS = "s2ca_jobs"


@dataclass(frozen=True)
class TrainFold(NnUNetJob):
    """Trains one fold, from its last checkpoint on, and validates it with probabilities.

    Attributes:
        model: What to train.
        fold: Which fold.
        device: nnU-Net's `-device`.
    """

    model: Model
    fold: int
    device: str

    def lock(self) -> AbstractContextManager[Lock]:
        """The fold's: two trainings at a time would overwrite each other's checkpoints."""
        return lock_fold(self.model.fold(self.fold))

    def command(self) -> list[str]:
        """The call of `nnUNetv2_train`, as the fold's files ask for; empty if it is finished."""
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
    """What became of a cross-validation.

    Attributes:
        skipped: Names of the folds that were finished before.
        failed: For each fold that failed or could not be started, by name, where its log is or why.
        queued: Ids of the jobs that SLURM has, by the fold's name.
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
    """Train and validate the folds of models of one dataset; what is finished is left alone.

    Args:
        models: What to train; all of one dataset. One that is named twice is trained once.
        backend: Where. On this machine the call waits for the jobs, on SLURM it does not.
        device: nnU-Net's `-device`.
        folds: Which folds; `None` for all of the split. The same holds for them.
        report: Takes one line for each thing that happens.

    Raises:
        UserError: The dataset is not preprocessed, its split is damaged or lacks a fold, the
            results cannot be written, or SLURM cannot be reached.
    """
    results = nnunet_folder("nnUNet_results")
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
