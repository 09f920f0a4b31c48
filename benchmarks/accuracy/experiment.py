"""The folders of an experiment, and the commands that prepare its patients."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

from benchmarks.accuracy.rows import CASCADE, FULLRES, LOWRES, Row
from benchmarks.accuracy.trainers.row_trainer import ROW_VARIABLE
from nnunetv2_s2ca.api.jobs import PLANS
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json, write_text
from nnunetv2_s2ca.core.launcher import command_line
from nnunetv2_s2ca.core.nnunet import PREPROCESSED, RAW, RESULTS
from nnunetv2_s2ca.demo.processes import (
    Job,
    nnunet_environment,
    run_jobs,
)
from nnunetv2_s2ca.synthetic.brats import write_patients
from nnunetv2_s2ca.synthetic.cohort import FIRST_HOSPITAL, SECOND_HOSPITAL
from nnunetv2_s2ca.synthetic.hard_patient import make_hard_patient

REPOSITORY = Path(__file__).parents[2]
SETTINGS_FILE, CASCADE_FILE = "experiment.json", "cascade.json"
HOSPITALS = {"first": FIRST_HOSPITAL, "second": SECOND_HOSPITAL}
TRAINING_IDS = {"first": 701, "second": 703}
TEST_IDS = {"first": 702, "second": 704}
# patients of the second hospital that train, and that validate, in every fold
FINE_TUNING, FINE_TUNING_VALIDATION = 8, 2


@dataclass(frozen=True)
class Settings:
    """Settings that all rows share.

    Attributes:
        patients: Patients of the first hospital, for training and validation in five folds.
        test: Patients of each hospital that only final rows predict.
        shape: Voxels (X, Y, Z) of a patient.
        spacing: In mm.
        steps: Steps of a row without its own number.
        seed: Seed of the patients.
    """

    patients: int = 40
    test: int = 20
    shape: tuple[int, int, int] = (36, 44, 36)
    spacing: float = 5.0
    steps: int = 300
    seed: int = 0

    def patients_as_json(self) -> dict:
        """The settings that determine the patients, for records."""
        content = json.loads(json.dumps(asdict(self)))
        del content["steps"]
        return content


class Experiment:
    """Patients and models below one folder.

    Args:
        folder: Created if missing.
        settings: Settings of all rows.
        say: Receives lines of progress.
    """

    def __init__(self, folder: Path, settings: Settings, *, say: Callable[[str], None] = print):
        self.folder, self.settings, self.say = folder.resolve(), settings, say
        self.logs = self.folder / "logs"

    def prepare(self) -> None:
        """Draw, convert, plan, preprocess and split the patients, unless this is done already.

        Raises:
            UserError: The folder holds patients with other settings, or a command fails.
        """
        state = self.folder / SETTINGS_FILE
        patients = self.settings.patients_as_json()
        if state.exists():
            if read_json(state) != patients:
                raise UserError(
                    f"{self.folder} holds patients with other settings; name another --work folder"
                )
            return
        self.logs.mkdir(parents=True, exist_ok=True)
        for hospital in HOSPITALS:
            self._prepare_hospital(hospital)
        write_text(state, json.dumps(patients, indent=2) + "\n")

    def prepare_cascade(self) -> None:
        """Add a cascade to the first hospital's plans and preprocess it, unless this is done.

        nnU-Net plans none, since a patch holds a whole image.

        Raises:
            UserError: nnU-Net's preprocessing fails.
        """
        done = self.folder / CASCADE_FILE
        if done.exists():
            return
        dataset_id = TRAINING_IDS["first"]
        path = self._dataset(PREPROCESSED, dataset_id) / f"{PLANS}.json"
        plans = read_json(path)
        stages = cascade_stages(plans["configurations"][FULLRES])
        plans["configurations"] |= stages
        write_text(path, json.dumps(plans, indent=4) + "\n")
        arguments = ("-d", dataset_id, "-plans_name", PLANS, "-c", LOWRES, "-np", 1)
        self.run("preprocess_lowres", command_line("nnUNetv2_preprocess", *arguments))
        write_text(done, json.dumps(stages, indent=2) + "\n")

    def raw(self, dataset_id: int) -> Path:
        """A dataset in nnUNet_raw."""
        return self._dataset(RAW, dataset_id)

    def model(self, row: Row) -> Path:
        """A row's folder in nnUNet_results."""
        name = self.raw(TRAINING_IDS[row.data]).name
        return self.folder / RESULTS / name / f"{row.trainer}__{PLANS}__{row.configuration}"

    def run(self, name: str, command: tuple[str, ...], row: dict | None = None) -> None:
        """Run one command on one thread, for a row if it trains or predicts one.

        Raises:
            UserError: It failed; quotes the end of its log.
        """
        environment = nnunet_environment(self.folder, threads=1)
        environment |= {
            "nnUNet_n_proc_DA": "1" if row is None else "0",
            "PYTHONPATH": str(REPOSITORY),
            "nnUNet_extTrainer": str(Path(__file__).parent / "trainers"),
            ROW_VARIABLE: json.dumps(row or {}),
        }
        run_jobs(
            [Job(name, command, self.logs / f"{name}.log")],
            at_once=1,
            environment=environment,
            folder=self.folder,
            say=lambda line: self.say(f"  {line}"),
        )

    def evaluate(self, name: str, truth: Path, predictions: Path) -> Path:
        """The folder with the metrics of predictions, as `s2ca evaluate` writes it."""
        output = predictions / "s2ca_evaluation"
        dataset = self.raw(TRAINING_IDS["first"]) / "dataset.json"
        command = command_line(
            "s2ca",
            *("evaluate", "--ref", truth, "--pred", predictions, "-djfile", dataset, "-o", output),
            *("--rules", "classic", "-np", 1, "--overwrite"),
        )
        self.run(name, command)
        return output

    def _prepare_hospital(self, hospital: str) -> None:
        settings, first = self.settings, hospital == "first"
        training = settings.patients if first else FINE_TUNING + FINE_TUNING_VALIDATION
        self.say(f"{hospital} hospital: {training} patients to train on, {settings.test} for test")
        for dataset_id, patients, start in (
            (TRAINING_IDS[hospital], training, 1),
            (TEST_IDS[hospital], settings.test, training + 1),
        ):
            source = patients_folder(self.folder, dataset_id)
            shutil.rmtree(source, ignore_errors=True)
            make = partial(
                make_hard_patient,
                shape=settings.shape,
                spacing=settings.spacing,
                cohort=HOSPITALS[hospital],
            )
            numbers = range(start, start + patients)
            seed = settings.seed + (0 if first else 10_000)
            write_patients(source, make, numbers=numbers, seed=seed)
            command = command_line(
                "s2ca", "convert", "brats2019", source, "-d", dataset_id, "--overwrite"
            )
            self.run(f"convert_{dataset_id}", command)
        dataset_id = TRAINING_IDS[hospital]
        arguments = ("-d", dataset_id, "-c", FULLRES, "-np", 1, "--clean")
        plan = command_line("nnUNetv2_plan_and_preprocess", *arguments)
        self.run(f"plan_{dataset_id}", plan)
        if first:
            splits = command_line("s2ca", "splits", "-d", dataset_id, "--overwrite")
            self.run(f"splits_{dataset_id}", splits)
        else:
            self._split_second_hospital(dataset_id)

    def _split_second_hospital(self, dataset_id: int) -> None:
        """Every fold, which is a seed, trains on the same few patients."""
        labels = self.raw(dataset_id) / "labelsTr"
        cases = sorted(path.name.removesuffix(".nii.gz") for path in labels.glob("*.nii.gz"))
        fold = {"train": cases[:FINE_TUNING], "val": cases[FINE_TUNING:]}
        target = self._dataset(PREPROCESSED, dataset_id) / "splits_final.json"
        write_text(target, json.dumps([fold] * 5, indent=2) + "\n")

    def _dataset(self, room: str, dataset_id: int) -> Path:
        (folder,) = (self.folder / room).glob(f"Dataset{dataset_id:03d}_*")
        return folder


def cascade_stages(fullres: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """nnU-Net's two stages of a cascade for a plan without one: half the resolution, then all."""
    lowres = {
        "inherits_from": FULLRES,
        "data_identifier": f"{PLANS}_{LOWRES}",
        "spacing": [2 * length for length in fullres["spacing"]],
        # three poolings
        "patch_size": [8 * ceil(size / 16) for size in fullres["patch_size"]],
        "median_image_size_in_voxels": [
            size / 2 for size in fullres["median_image_size_in_voxels"]
        ],
        "next_stage": CASCADE,
    }
    return {LOWRES: lowres, CASCADE: {"inherits_from": FULLRES, "previous_stage": LOWRES}}


def patients_folder(work: Path, dataset_id: int) -> Path:
    """The BraTS 2019 folder that holds the synthetic patients of a dataset."""
    return work / f"patients_{dataset_id}"
