"""Cross-validation and prediction as jobs, on this machine or on SLURM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from nnunetv2_s2ca.api.logger import report as say
from nnunetv2_s2ca.api.report import check_page
from nnunetv2_s2ca.api.report import report as write_report
from nnunetv2_s2ca.core.nnunet import PREPROCESSED, find_dataset
from nnunetv2_s2ca.jobs.backends import LocalBackend, SlurmBackend
from nnunetv2_s2ca.jobs.folds import Model
from nnunetv2_s2ca.jobs.prediction import predict_in_parts
from nnunetv2_s2ca.jobs.scores import region_names, validation_dice
from nnunetv2_s2ca.jobs.training import CrossValidation
from nnunetv2_s2ca.jobs.training import cross_validate as train_folds
from nnunetv2_s2ca.reporting.tables import fold_table

TRAINER, PLANS, FOLDS = "nnUNetTrainerS2CA", "nnUNetPlans", (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class CrossValidationReport:
    """The outcome of a cross-validation.

    Attributes:
        outcome: Which folds were skipped, failed, or wait on SLURM.
        table: Dice of the validated folds as text.
        report: The HTML page, if one was asked for and a fold has been validated.
    """

    outcome: CrossValidation
    table: str
    report: Path | None = None

    def __str__(self) -> str:
        hint = "\n\nThe same command again shows how far the folds are."
        page = "" if self.report is None else f"\nreport: {self.report}"
        return f"\n{self.table}" + (hint if self.outcome.queued else "") + page


@dataclass(frozen=True)
class PredictionReport:
    """The outcome of a prediction by several jobs.

    Attributes:
        failed: Name of each failed job → its log.
    """

    failed: dict[str, str]


def cross_validate(
    dataset: int | str,
    configuration: str,
    *,
    trainers: Sequence[str] = (TRAINER,),
    plans: str = PLANS,
    folds: Sequence[int] | None = None,
    backend: LocalBackend | SlurmBackend | None = None,
    device: str | None = None,
    report: str | PathLike[str] | None = None,
) -> CrossValidationReport:
    """Train and validate all folds with `nnUNetv2_train`; finished folds are skipped.

    Args:
        dataset: nnU-Net's id or name of a preprocessed dataset.
        configuration: Such as "3d_fullres".
        trainers: Names for `nnUNetv2_train -tr`.
        plans: nnU-Net's plans.
        folds: Numbers of the folds; all of the split if None.
        backend: Where the jobs run; one at a time on this machine if None.
        device: "cuda", "cpu" or "mps"; CUDA if there is one if None.
        report: Also write an HTML page about all trainers to this file; an earlier page is
            replaced, since the command is repeated until all folds are finished.

    Raises:
        UserError: The dataset is not preprocessed, a fold does not exist, or SLURM does not answer.
    """
    name = find_dataset(dataset, PREPROCESSED).name
    models = [Model(name, configuration, trainer, plans) for trainer in trainers]
    if report is not None:
        check_page(Path(report), overwrite=True)
    regions = region_names(models[0])  # may raise, so before days of training
    outcome = train_folds(
        models,
        backend or LocalBackend(),
        device=device or available_device(),
        folds=folds,
        report=say,
    )
    dices = {model.trainer: validation_dice(model) for model in models}
    trained = [model.folder for model in models if dices[model.trainer]]
    page = None
    if report is not None and trained:
        page = write_report(trained, report, overwrite=True).path
    return CrossValidationReport(outcome, fold_table(dices, regions), page)


def predict(
    images: str | PathLike[str],
    output: str | PathLike[str],
    *,
    dataset: int | str,
    configuration: str,
    trainer: str = TRAINER,
    plans: str = PLANS,
    folds: Sequence[int | str] = FOLDS,
    backend: LocalBackend | SlurmBackend | None = None,
    jobs: int = 1,
    device: str | None = None,
    options: Sequence[str] = (),
) -> PredictionReport:
    """Predict a folder of images by several calls of `nnUNetv2_predict`.

    Args:
        images: Folder with `CASE_0000.nii.gz` and so on.
        output: Folder for the predictions; what it holds already is skipped.
        dataset: nnU-Net's id or name.
        configuration: Such as "3d_fullres".
        trainer: Name of the trainer.
        plans: nnU-Net's plans.
        folds: Folds whose predictions are averaged.
        backend: Where the jobs run; on this machine if None.
        jobs: Number of calls.
        device: "cuda", "cpu" or "mps"; CUDA if there is one if None.
        options: Further options of `nnUNetv2_predict`.

    Raises:
        UserError: There are no images, or cases are missing once all jobs are done.
    """
    model = ["-d", str(dataset), "-c", configuration, "-tr", trainer, "-p", plans]
    failed = predict_in_parts(
        Path(images),
        Path(output),
        backend or LocalBackend(),
        options=[*model, "-f", *map(str, folds), "-device", device or available_device(), *options],
        parts=jobs,
        report=say,
    )
    return PredictionReport(failed)


def available_device() -> str:
    """CUDA if this machine has it, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
