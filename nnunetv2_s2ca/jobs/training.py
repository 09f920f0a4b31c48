"""Cross-validations: the folds of one or several trainers as jobs, each where it left off."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json, write_text
from nnunetv2_s2ca.core.folds import fold_folders, read_splits
from nnunetv2_s2ca.core.lock import FoldLock, lock_fold, training_in
from nnunetv2_s2ca.evaluation.regions import Region, scheme_of_dataset
from nnunetv2_s2ca.jobs.backends import (
    LocalBackend,
    SlurmBackend,
    run_locally,
    submit_to_slurm,
)
from nnunetv2_s2ca.jobs.command import NnUNetJob

LOGS = "s2ca_jobs"
RAW = "nnUNet_raw"


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

    def lock(self) -> AbstractContextManager[FoldLock]:
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


def fold_state(folder: Path) -> FoldState:
    """How far a fold is, by the files that nnU-Net leaves in its folder."""
    if (folder / "checkpoint_final.pth").is_file():
        return FoldState.FINISHED if _is_validated(folder / "validation") else FoldState.TRAINED
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
        models: What to train; all of one dataset. One that is named twice is trained once.
        backend: Where. On this machine the call waits for the jobs, on SLURM it does not.
        device: nnU-Net's `-device`.
        folds: Which folds; `None` for all of the split. The same holds for them.
        report: Takes one line for each thing that happens.

    Raises:
        UserError: The dataset is not preprocessed, a fold is not in the split, or SLURM cannot be
            reached.
    """
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
    logs = nnunet_folder("nnUNet_results") / models[0].dataset / LOGS
    if isinstance(backend, LocalBackend):
        failed |= run_locally(jobs, backend, logs=logs, report=report) if jobs else {}
        return CrossValidation(skipped, failed, {})
    name = f"s2ca {models[0].dataset}"
    queued = submit_to_slurm(jobs, backend, logs=logs, name=name, report=report)
    return CrossValidation(skipped, failed, queued)


def ensure_splits(model: Model) -> int:
    """Number of folds of the dataset; makes nnU-Net's split if there is none.

    Otherwise every fold that starts first would write `splits_final.json`, and another might read
    it half-written.

    Raises:
        UserError: The dataset is not planned and preprocessed, or its split is damaged.
    """
    folder = nnunet_folder("nnUNet_preprocessed") / model.dataset
    splits = folder / "splits_final.json"
    if not splits.is_file():
        from nnunetv2.utilities.crossval_split import generate_crossval_split

        from nnunetv2_s2ca.dataset_conversion.convert import RECORD
        from nnunetv2_s2ca.dataset_conversion.splits import write_splits

        plans = folder / f"{model.plans}.json"
        cases = sorted(path.name for path in (folder / "gt_segmentations").glob("*"))
        if not plans.is_file() or not cases:
            raise UserError(
                f"{model.dataset} is not preprocessed for {model.plans}; run "
                "nnUNetv2_plan_and_preprocess first"
            )
        raw = os.environ.get(RAW, "")
        if (Path(raw) / model.dataset / RECORD).is_file():
            # it knows the patients, whom nnU-Net's folds would part
            write_splits(int(model.dataset[7:10]))
            return len(read_splits(splits))
        ending = read_json(folder / "dataset.json").get("file_ending")
        if not ending:
            raise UserError(f"{folder / 'dataset.json'} has no file_ending; plan the dataset again")
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
    return len(read_splits(splits))


def find_dataset(name_or_id: str) -> str:
    """Full name of a preprocessed dataset, from its name or number.

    Raises:
        UserError: There is none, or more than one.
    """
    base = nnunet_folder("nnUNet_preprocessed")
    number = f"Dataset{int(name_or_id):03d}_" if name_or_id.isdecimal() else None
    names = sorted(path.name for path in base.glob("Dataset*") if path.is_dir())
    found = [name for name in names if name == name_or_id or (number and name.startswith(number))]
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
    dices = {}
    for fold, folder in fold_folders(model.folder).items():
        summary = folder / "validation/summary.json"
        if summary.is_file():
            dices[fold] = _dice_of_summary(summary, _regions(model))
    return dices


def _dice_of_summary(path: Path, regions: Sequence[Region]) -> list[float]:
    content = read_json(path)
    try:
        # nnU-Net writes a region as the text of a tuple, a single label as that of a number
        means = {
            tuple(int(label) for label in re.findall(r"\d+", key)): float(value["Dice"])
            for key, value in content["mean"].items()
        }
        mean = float(content["foreground_mean"]["Dice"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not nnU-Net's summary.json: {error!r}; remove it and give the command "
            "again, which validates the fold again"
        ) from error
    return [*(means.get(region.labels, math.nan) for region in regions), mean]


def _is_validated(validation: Path) -> bool:
    """Whether nnU-Net has scored the fold's cases, and kept the probabilities of each."""
    try:
        content = json.loads((validation / "summary.json").read_text(encoding="utf-8"))
        names = [Path(case["prediction_file"]).name for case in content["metric_per_case"]]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    kept = {path.stem for path in validation.glob("*.npz")}
    # a dataset's files end in one suffix or two
    return all(kept & {Path(name).stem, Path(Path(name).stem).stem} for name in names)


def _regions(model: Model) -> tuple[Region, ...]:
    path = nnunet_folder("nnUNet_preprocessed") / model.dataset / "dataset.json"
    return scheme_of_dataset(path).regions
