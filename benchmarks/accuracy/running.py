"""Train, validate and test rows by nnU-Net's commands, and record the results."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy.experiment import TEST_IDS, TRAINING_IDS, Experiment
from benchmarks.accuracy.records import Records, Scores, read_scores
from benchmarks.accuracy.rows import FULLRES, ROWS, Row
from benchmarks.accuracy.trainers.row_trainer import CURVE_FILE
from nnunetv2_s2ca.api.jobs import FOLDS
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json
from nnunetv2_s2ca.core.folds import read_splits
from nnunetv2_s2ca.core.launcher import command_line
from nnunetv2_s2ca.core.nnunet import PREPROCESSED

FINAL = "checkpoint_final.pth"


class Runner:
    """Runs the rows of an experiment that are not recorded yet.

    Args:
        experiment: A prepared experiment.
        records: Its records.
    """

    def __init__(self, experiment: Experiment, records: Records):
        self.experiment, self.records, self.say = experiment, records, experiment.say

    def run(self, row: Row, seed: int, *, test: bool) -> None:
        """Train and validate a row, predict the test patients if `test`, skip what is recorded.

        Raises:
            UserError: A row that this one needs is not recorded, or a command fails.
        """
        conditions = self._conditions(row, seed)
        record = self.records.finished(row.name, seed, conditions)
        if record is None:
            self.say(f"{row.name}, seed {seed}: train {conditions['steps']} steps")
            self._train(row, seed, conditions)
            record = {
                "conditions": conditions,
                "machine": f"{platform.machine()}, one thread, PyTorch {torch.__version__}",
                "curve": read_json(self._fold(row, seed) / CURVE_FILE),
                "validation": self._validation_scores(row, seed),
                "test": None,
            }
            record["seconds"] = record["curve"]["validation"][-1]["seconds"]
            self.records.write(row.name, seed, record)
        if test and record["test"] is None:
            self.say(f"{row.name}, seed {seed}: predict the test patients")
            record["test"] = self._test_scores(row, seed, conditions)
            self.records.write(row.name, seed, record)
        self.say(f"{row.name}, seed {seed}: {summary(record)}")

    def _conditions(self, row: Row, seed: int) -> dict[str, Any]:
        settings = self.experiment.settings
        steps = row.steps or settings.steps
        if row.seconds_of is not None:
            steps = self._steps_in_seconds_of(row, seed)
        return {"row": row.as_json(), "steps": steps, "patients": settings.patients_as_json()}

    def _steps_in_seconds_of(self, row: Row, seed: int) -> int:
        """The number of steps that take the other row's processor seconds."""
        other = self._needed(str(row.seconds_of), seed)
        same = next(
            candidate.name
            for candidate in ROWS.values()
            if candidate.recipe == row.recipe and candidate.seconds_of is None
        )
        own = self._needed(same, seed)
        return round(other["seconds"] * own["conditions"]["steps"] / own["seconds"])

    def _needed(self, name: str, seed: int) -> dict[str, Any]:
        record = self.records.read(name, seed)
        if record is None:
            raise UserError(f"the row {name} with seed {seed} is needed first; name it in --rows")
        return record

    def _train(self, row: Row, seed: int, conditions: dict[str, Any]) -> None:
        options: tuple[object, ...] = ()
        if row.start_from is not None:
            self._needed(row.start_from, seed)
            options = ("-pretrained_weights", self._fold(ROWS[row.start_from], seed) / FINAL)
        if row.configuration != FULLRES:
            self.experiment.prepare_cascade()
        if row.previous_stage is not None:
            # each fold's model predicts the patients that it was not trained on
            for fold in FOLDS:
                self.run(ROWS[row.previous_stage], fold, test=False)
        shutil.rmtree(self._fold(row, seed), ignore_errors=True)
        command = command_line(
            "nnUNetv2_train",
            *(TRAINING_IDS[row.data], row.configuration, seed, "-tr", row.trainer),
            *("-device", "cpu", *options),
        )
        self._run("train", row, seed, command, conditions)

    def _validation_scores(self, row: Row, seed: int) -> Scores:
        validation = self._fold(row, seed) / "validation"
        dataset = self.experiment.raw(TRAINING_IDS[row.data])
        splits = self.experiment.folder / PREPROCESSED / dataset.name
        cases = read_splits(splits / "splits_final.json")[seed]["val"]
        # only the fold's labels
        truth = self._fold(row, seed) / "truth"
        truth.mkdir(exist_ok=True)
        for case in cases:
            shutil.copy(dataset / "labelsTr" / f"{case}.nii.gz", truth)
        name = f"evaluate_validation_{row.name}_seed{seed}"
        return read_scores(self.experiment.evaluate(name, truth, validation))

    def _test_scores(self, row: Row, seed: int, conditions: dict[str, Any]) -> Scores:
        test = self.experiment.raw(TEST_IDS[row.data])
        output = predictions_folder(self.experiment.folder, row.name, seed)
        shutil.rmtree(output, ignore_errors=True)
        options: tuple[object, ...] = ()
        if row.previous_stage is not None:
            self.run(ROWS[row.previous_stage], seed, test=True)
            previous = predictions_folder(self.experiment.folder, row.previous_stage, seed)
            options = ("-prev_stage_predictions", previous)
        command = command_line(
            "nnUNetv2_predict",
            *("-d", TRAINING_IDS[row.data], "-c", row.configuration),
            *("-tr", row.trainer, "-f", seed, "-device", "cpu", "-npp", 0, "-nps", 0),
            *("-i", test / "imagesTr", "-o", output, *options),
        )
        self._run("predict", row, seed, command, conditions)
        name = f"evaluate_test_{row.name}_seed{seed}"
        return read_scores(self.experiment.evaluate(name, test / "labelsTr", output))

    def _run(
        self, what: str, row: Row, seed: int, command: tuple[str, ...], conditions: dict[str, Any]
    ) -> None:
        """Run a command with the variable that the row's trainer reads."""
        content = trainer_content(row, steps=conditions["steps"])
        self.experiment.run(f"{what}_{row.name}_seed{seed}", command, content)

    def _fold(self, row: Row, seed: int) -> Path:
        return self.experiment.model(row) / f"fold_{seed}"


def trainer_content(row: Row, *, steps: int) -> dict[str, Any]:
    """The content of the environment variable that a row's trainer reads."""
    return row.as_json() | {"trainer": row.trainer, "steps": steps}


def predictions_folder(work: Path, name: str, seed: int) -> Path:
    """Folder of a row's predictions of the test patients."""
    return work / "predictions" / f"{name}.seed{seed}"


def mean_dice(scores: Scores) -> dict[str, float]:
    """Mean Dice over patients of each region."""
    regions = list(next(iter(scores.values())))
    return {
        region: sum(case[region]["dice"] for case in scores.values()) / len(scores)
        for region in regions
    }


def summary(record: dict[str, Any]) -> str:
    """A record in a line."""
    parts = [f"{record['seconds']:.0f} s"]
    for part in ("validation", "test"):
        if record[part]:
            dice = mean_dice(record[part])
            values = " ".join(f"{region} {value:.3f}" for region, value in dice.items())
            parts.append(f"{part} {values} mean {sum(dice.values()) / len(dice):.3f}")
    return ", ".join(parts)
