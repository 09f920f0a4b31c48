"""The steps of the demo, from made-up patients to the report."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import write_text
from nnunetv2_s2ca.core.paths import resolved
from nnunetv2_s2ca.demo.picture import draw_predictions
from nnunetv2_s2ca.demo.processes import (
    Job,
    nnunet_command,
    nnunet_environment,
    run_jobs,
    s2ca_command,
)
from nnunetv2_s2ca.demo.scores import REGIONS, Scores, score_folder
from nnunetv2_s2ca.demo.state import check_result, open_output, write_state
from nnunetv2_s2ca.synthetic.brats import write_brats2019

DATASET_ID, HELD_OUT_ID = 43, 44
CONFIGURATION = "3d_fullres"
NUM_FOLDS = 5  # nnU-Net's
TRAINING_MEMORY = 3e9  # bytes that the training of a fold takes

REPORT_FILE = "demo_report.md"
PICTURE_FILE = "demo_slices.png"


@dataclass(frozen=True)
class DemoSettings:
    """What is trained on what; the defaults are those of `s2ca demo`.

    Attributes:
        patients: made-up patients to train on, five at least.
        held_out: made-up patients to predict.
        folds: folds of the five-fold cross-validation to train and to ensemble.
        trainer: name for `nnUNetv2_train -tr`.
        shape: voxels (X, Y, Z) of a patient.
        spacing: mm.
        seed: of the patients.
        device: "cpu", "cuda" or "mps".

    Raises:
        UserError: if too few patients, unknown folds or a fold twice are asked for.
    """

    patients: int = 12
    held_out: int = 4
    folds: tuple[int, ...] = tuple(range(NUM_FOLDS))
    trainer: str = "nnUNetTrainerS2CA_demo"
    shape: tuple[int, int, int] = (36, 44, 36)
    spacing: float = 5.0
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self):
        if self.patients < NUM_FOLDS:
            raise UserError(
                f"{self.patients} patients cannot be split into five folds; expected at least 5"
            )
        if self.held_out < 1:
            raise UserError("no patient is held out; expected at least 1, to be predicted")
        once = len(set(self.folds)) == len(self.folds)
        if not self.folds or not once or not set(self.folds) <= set(range(NUM_FOLDS)):
            raise UserError(
                f"folds {self.folds} were asked for; expected some of 0, 1, 2, 3, 4, each once"
            )


@dataclass(frozen=True)
class DemoResult:
    """What came out.

    Attributes:
        folds: fold → mean Dice of each region over the fold's validation patients.
        ensemble: mean Dice of each region over the patients held out.
        report: Markdown file.
        picture: PNG file.
    """

    folds: Mapping[int, Scores]
    ensemble: Scores
    report: Path
    picture: Path

    def __str__(self) -> str:
        return f"{scores_table(self)}\n\nreport: {self.report}\npicture: {self.picture}"

    def check(self, min_dice: Mapping[str, float]) -> None:
        """See whether the predictions are good.

        Args:
            min_dice: region → lowest Dice of the ensemble that is accepted.

        Raises:
            UserError: A region's Dice is lower.
        """
        low = [
            f"{region} {self.ensemble[region]:.3f} (at least {bar:g})"
            for region, bar in min_dice.items()
            if self.ensemble[region] < bar
        ]
        if low:
            raise UserError(
                f"the ensemble's Dice is lower than expected: {', '.join(low)}; see {self.report} "
                "and the logs beside it"
            )


def run_demo(
    output: Path, settings: DemoSettings | None = None, *, say: Callable[[str], None] = print
) -> DemoResult:
    """Make up patients, convert, plan, train, predict, compare; everything below `output`.

    A demo that was interrupted goes on after the last step that it finished.

    Args:
        output: a folder that is empty, does not exist, or holds an earlier demo of these settings.
        settings: defaults if not given.
        say: takes the lines that tell how far it is.

    Raises:
        UserError: if `output` holds something else or cannot be written to, or a step fails.
    """
    folder = resolved(Path(output))
    try:
        return _Chain(folder, settings or DemoSettings(), say).run()
    except OSError as error:
        where = f": {error.filename}" if error.filename is not None else ""
        raise UserError(
            f"{folder} cannot be used ({error.strerror or error}{where}); give a folder that you "
            "may write to, on a disk with room"
        ) from error


class _Chain:
    def __init__(self, output: Path, settings: DemoSettings, say: Callable[[str], None]):
        self.output, self.settings = output, settings
        self.started = time.monotonic()
        self.say = lambda line: say(f"[{_clock(time.monotonic() - self.started)}] {line}")
        self.brats, self.held_out = output / "BraTS2019_synthetic", output / "BraTS2019_held_out"
        self.predictions = output / "predictions"
        self.logs = output / "logs"

    def run(self) -> DemoResult:
        settings = self.settings
        noted = json.loads(json.dumps(asdict(settings)))
        count = settings.patients + settings.held_out
        # how a step is announced, the step, and the last that it makes
        steps: list[tuple[str, Callable[[], None], Callable[[], Path]]] = [
            (f"make up {count} patients", self.make_patients, lambda: self.held_out),
            (
                "convert them to nnU-Net's format",
                self.convert,
                lambda: self._dataset("nnUNet_raw", HELD_OUT_ID) / "dataset.json",
            ),
            (
                "plan, preprocess and split into folds",
                self.plan,
                lambda: self._dataset("nnUNet_preprocessed", DATASET_ID) / "splits_final.json",
            ),
            (
                f"train folds {', '.join(map(str, settings.folds))}",
                self.train,
                lambda: self._validation(settings.folds[-1]),
            ),
            (
                f"predict {settings.held_out} held-out patients",
                self.predict,
                lambda: self.predictions,
            ),
        ]
        total = len(steps) + 1
        done = open_output(self.output, noted, steps=[step.__name__ for _, step, _ in steps])
        self.logs.mkdir(exist_ok=True)
        for number, (title, step, result) in enumerate(steps, 1):
            if step.__name__ in done:
                check_result(self.output, step.__name__, result())
                self.say(f"step {number}/{total}: {title}: done before")
                continue
            self.say(f"step {number}/{total}: {title}")
            step()
            done.append(step.__name__)
            write_state(self.output, noted, done)
        self.say(f"step {total}/{total}: compare with the truth")
        return self.compare()

    def make_patients(self) -> None:
        settings = self.settings
        for folder, patients, first in (
            (self.brats, settings.patients, 1),
            (self.held_out, settings.held_out, settings.patients + 1),
        ):
            write_brats2019(
                folder,
                patients=patients,
                first=first,
                seed=settings.seed,
                shape=settings.shape,
                spacing=settings.spacing,
            )

    def convert(self) -> None:
        for source, dataset_id in ((self.brats, DATASET_ID), (self.held_out, HELD_OUT_ID)):
            self._run_one(
                f"convert_{dataset_id}",
                s2ca_command("convert", "brats2019", source, "-d", dataset_id, "--overwrite"),
            )

    def plan(self) -> None:
        arguments = ("-d", DATASET_ID, "-c", CONFIGURATION, "-np", 1, "--clean")
        self._run_one(
            "plan_and_preprocess",
            nnunet_command(
                "nnUNetv2_plan_and_preprocess", *arguments, "--verify_dataset_integrity"
            ),
            # planning takes this for its number of threads
            nnUNet_n_proc_DA="1",
        )
        # each fold would split by itself, and one could read what another is just writing
        self._run_one("splits", s2ca_command("splits", "-d", DATASET_ID, "--overwrite"))

    def train(self) -> None:
        # several folds at a time, each on a share of the cores: so small patches are done faster
        # than by more threads for one
        settings = self.settings
        fitting = int(psutil.virtual_memory().available // TRAINING_MEMORY)
        at_once = max(min(_cores(), fitting), 1) if settings.device == "cpu" else 1
        at_once = min(at_once, len(settings.folds))
        jobs = [
            Job(
                f"fold {fold}",
                nnunet_command(
                    "nnUNetv2_train",
                    *(DATASET_ID, CONFIGURATION, fold, "-tr", settings.trainer),
                    *("-device", settings.device, "--c"),
                ),
                self.logs / f"train_fold_{fold}.log",
            )
            for fold in settings.folds
        ]
        self._run(jobs, at_once=at_once, nnUNet_n_proc_DA="0")

    def predict(self) -> None:
        arguments = (
            *("-d", DATASET_ID, "-c", CONFIGURATION, "-tr", self.settings.trainer),
            *("-i", self._dataset("nnUNet_raw", HELD_OUT_ID) / "imagesTr", "-o", self.predictions),
            *("-f", *self.settings.folds, "-device", self.settings.device),
            *("-npp", 0, "-nps", 0),  # no worker processes, which take longer to start
        )
        self._run_one("predict", nnunet_command("nnUNetv2_predict", *arguments))

    def compare(self) -> DemoResult:
        result = DemoResult(
            folds={
                fold: score_folder(self._validation(fold), self.brats)
                for fold in self.settings.folds
            },
            ensemble=score_folder(self.predictions, self.held_out),
            report=self.output / REPORT_FILE,
            picture=self.output / PICTURE_FILE,
        )
        draw_predictions(self.predictions, self.held_out, result.picture)
        write_text(result.report, _report(result, self.settings))
        return result

    def _run_one(self, name: str, command: tuple[str, ...], **environment: str) -> None:
        self._run([Job(name, command, self.logs / f"{name}.log")], at_once=1, **environment)

    def _run(self, jobs: list[Job], *, at_once: int, **environment: str) -> None:
        threads = max(_cores() // at_once, 1)
        run_jobs(
            jobs,
            at_once=at_once,
            environment={**nnunet_environment(self.output, threads=threads), **environment},
            folder=self.output,
            say=lambda line: self.say(f"  {line}"),
        )

    def _dataset(self, variable: str, dataset_id: int) -> Path:
        """The folder of a dataset in one of nnU-Net's three folders."""
        return self.output / variable / f"Dataset{dataset_id:03d}_BraTS2019"

    def _validation(self, fold: int) -> Path:
        """The folder with a fold's predictions of its own patients."""
        trained = f"{self.settings.trainer}__nnUNetPlans__{CONFIGURATION}"
        return self._dataset("nnUNet_results", DATASET_ID) / trained / f"fold_{fold}" / "validation"


def scores_table(result: DemoResult) -> str:
    """Dice per region of each fold and of the ensemble, as a Markdown table."""
    rows = [(f"fold {fold}, its validation patients", s) for fold, s in result.folds.items()]
    rows.append(("**ensemble, patients held out**", result.ensemble))
    lines = [f"| Dice | {' | '.join(REGIONS)} |", "|---|" + "---:|" * len(REGIONS)]
    lines += [
        f"| {name} | {' | '.join(f'{scores[region]:.3f}' for region in REGIONS)} |"
        for name, scores in rows
    ]
    return "\n".join(lines)


def _report(result: DemoResult, settings: DemoSettings) -> str:
    return f"""# Demo of nnunetv2-s2ca

**The patients are made up.** Brains are bent copies of the MNI152 template, tumours are drawn by a
program, at {settings.spacing:g} mm. These numbers show that the chain works on this machine, and
nothing about how well S2CA-Net segments real gliomas.

{settings.patients} patients were trained on with `{settings.trainer}`, {settings.held_out} were
held out and predicted by the ensemble of {len(settings.folds)} folds (`nnUNetv2_predict`).

{scores_table(result)}

Mean over patients; a region that neither truth nor prediction has counts 1. WT whole tumour, TC
tumour core, ET enhancing tumour.

![slices]({result.picture.name})
"""


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:2d}:{int(seconds) % 60:02d}"
