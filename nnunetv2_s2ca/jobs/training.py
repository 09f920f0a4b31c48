"""Cross-validations: the folds of one or several trainers as jobs, each where it left off."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from nnunetv2_s2ca.errors import UserError
from nnunetv2_s2ca.evaluation.regions import Region, read_json, scheme_of_dataset
from nnunetv2_s2ca.files import write_text
from nnunetv2_s2ca.jobs.backends import (
    LocalBackend,
    SlurmBackend,
    queue_record,
    run_locally,
    submit_to_slurm,
    without_queued,
)
from nnunetv2_s2ca.jobs.command import NnUNetJob

LOGS = "s2ca_jobs"


class FoldState(Enum):
    """How far a fold is, and the option that lets `nnUNetv2_train` go on from there."""

    NEW = ()
    STARTED = ("--c",)
    TRAINED = ("--val",)
    FINISHED = None


@dataclass(frozen=True)
class Model:
    """A trained, or to be trained, configuration of a dataset.

    Attributes:
        dataset: Full name, `Dataset043_BraTS2019`.
        configuration: `3d_fullres` and the like.
        trainer: Name of the trainer's class.
        plans: Identifier of the plans.
    """

    dataset: str
    configuration: str
    trainer: str
    plans: str = "nnUNetPlans"

    @property
    def folder(self) -> Path:
        """Its folder in `nnUNet_results`."""
        name = f"{self.trainer}__{self.plans}__{self.configuration}"
        return nnunet_folder("nnUNet_results") / self.dataset / name

    def fold(self, fold: int) -> Path:
        """The folder of one of its folds."""
        return self.folder / f"fold_{fold}"


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
        failed: For each failed fold, by name, where its log is.
        queued: Ids of the jobs that SLURM has, by the fold's name.
    """

    skipped: list[str]
    failed: dict[str, str]
    queued: dict[str, str]


def fold_state(folder: Path) -> FoldState:
    """How far a fold is, by the files that nnU-Net leaves in its folder."""
    if (folder / "checkpoint_final.pth").is_file():
        validated = (folder / "validation/summary.json").is_file()
        return FoldState.FINISHED if validated else FoldState.TRAINED
    # the two from which nnU-Net's --c goes on
    checkpoints = ("checkpoint_latest.pth", "checkpoint_best.pth")
    started = any((folder / name).is_file() for name in checkpoints)
    return FoldState.STARTED if started else FoldState.NEW


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
        models: What to train; all of one dataset.
        backend: Where. On this machine the call waits for the jobs, on SLURM it does not.
        device: nnU-Net's `-device`.
        folds: Which folds; `None` for all of the split.
        report: Takes one line for each thing that happens.

    Raises:
        UserError: The dataset is not preprocessed, a fold is not in the split, or SLURM cannot be
            reached.
    """
    number = ensure_splits(models[0])
    chosen = range(number) if folds is None else folds
    if any(fold not in range(number) for fold in chosen):
        raise UserError(f"the split of {models[0].dataset} has the folds 0 to {number - 1}")
    jobs: list[NnUNetJob] = []
    skipped = []
    for model in models:
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
            else:
                jobs.append(job)
    logs = nnunet_folder("nnUNet_results") / models[0].dataset / LOGS
    if isinstance(backend, LocalBackend):
        failed = run_locally(jobs, backend, logs=logs, report=report) if jobs else {}
        return CrossValidation(skipped, failed, {})
    jobs, queued = without_queued(jobs, logs=logs)
    for name, job_id in queued.items():
        report(
            f"{name}: SLURM has it already, job {job_id}; if it has not, remove "
            f"{queue_record(logs, name)}"
        )
    if jobs:
        submitted = submit_to_slurm(jobs, backend, logs=logs, name=f"s2ca {models[0].dataset}")
        for fresh, handle in zip(jobs, submitted, strict=True):
            report(f"{fresh.name}: submitted, job {handle.job_id}, log {handle.paths.stdout}")
            queued[fresh.name] = handle.job_id
    return CrossValidation(skipped, {}, queued)


def ensure_splits(model: Model) -> int:
    """Number of folds of the dataset; makes nnU-Net's split if there is none.

    Otherwise every fold that starts first would write `splits_final.json`, and another might read
    it half-written.

    Raises:
        UserError: The dataset is not planned and preprocessed.
    """
    folder = nnunet_folder("nnUNet_preprocessed") / model.dataset
    splits = folder / "splits_final.json"
    if not splits.is_file():
        from nnunetv2.utilities.crossval_split import generate_crossval_split

        plans = folder / f"{model.plans}.json"
        cases = sorted(path.name for path in (folder / "gt_segmentations").glob("*"))
        if not plans.is_file() or not cases:
            raise UserError(
                f"{model.dataset} is not preprocessed for {model.plans}; run "
                "nnUNetv2_plan_and_preprocess first"
            )
        ending = read_json(folder / "dataset.json")["file_ending"]
        names = [name.removesuffix(ending) for name in cases]
        if len(names) < 5:
            raise UserError(
                f"{model.dataset} has {len(names)} cases, too few for five folds; write {splits}"
            )
        split = [
            {part: [str(case) for case in cases] for part, cases in fold.items()}
            for fold in generate_crossval_split(names)
        ]
        write_text(splits, json.dumps(split, indent=4))
    return len(json.loads(splits.read_text(encoding="utf-8")))


def find_dataset(name_or_id: str) -> str:
    """Full name of a preprocessed dataset, from its name or number.

    Raises:
        UserError: There is none, or more than one.
    """
    base = nnunet_folder("nnUNet_preprocessed")
    pattern = f"Dataset{int(name_or_id):03d}_*" if name_or_id.isdigit() else name_or_id
    found = sorted(path.name for path in base.glob(pattern) if path.is_dir())
    if len(found) != 1:
        raise UserError(
            f"{base} has {len(found) or 'no'} datasets for {name_or_id}"
            + (f": {', '.join(found)}" if found else "; run nnUNetv2_plan_and_preprocess first")
        )
    return found[0]


def nnunet_folder(name: str) -> Path:
    """One of nnU-Net's three folders, by the name of its environment variable.

    Raises:
        UserError: The variable is not set.
    """
    value = os.environ.get(name)
    if not value:
        raise UserError(f"{name} is not set; it names one of nnU-Net's three folders")
    return Path(value)


def region_names(model: Model) -> list[str]:
    """The regions, or labels, of a model's dataset.

    Raises:
        UserError: A missing or damaged `dataset.json`.
    """
    return [region.name for region in _regions(model)]


def validation_dice(model: Model) -> dict[int, list[float]]:
    """Mean Dice of each region in each validated fold, as nnU-Net's `summary.json` has it.

    Returns:
        For each fold the values in the order of `region_names`, the mean over regions last.

    Raises:
        UserError: A missing or damaged `dataset.json` or `summary.json`.
    """
    dices: dict[int, list[float]] = {}
    for summary in sorted(model.folder.glob("fold_[0-9]*/validation/summary.json")):
        content = read_json(summary)
        # nnU-Net writes a region as the text of a tuple, a single label as that of a number
        means = {
            tuple(int(label) for label in re.findall(r"\d+", key)): value["Dice"]
            for key, value in content["mean"].items()
        }
        fold = int(summary.parents[1].name.removeprefix("fold_"))
        values = [means.get(region.labels, math.nan) for region in _regions(model)]
        dices[fold] = [*values, content["foreground_mean"]["Dice"]]
    return dict(sorted(dices.items()))


def _regions(model: Model) -> tuple[Region, ...]:
    path = nnunet_folder("nnUNet_preprocessed") / model.dataset / "dataset.json"
    return scheme_of_dataset(path).regions
