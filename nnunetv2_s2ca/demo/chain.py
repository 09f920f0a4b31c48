"""The steps of the demo, from synthetic patients to the report."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import psutil

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import write_text
from nnunetv2_s2ca.core.launcher import command_line
from nnunetv2_s2ca.core.nnunet import PREPROCESSED, RAW, RESULTS
from nnunetv2_s2ca.core.paths import resolved
from nnunetv2_s2ca.demo.picture import draw_predictions
from nnunetv2_s2ca.demo.processes import (
    Job,
    nnunet_environment,
    run_jobs,
)
from nnunetv2_s2ca.demo.report import DemoResult, report_text
from nnunetv2_s2ca.demo.scores import score_folder
from nnunetv2_s2ca.demo.settings import DemoSettings
from nnunetv2_s2ca.demo.state import check_result, open_output, write_state
from nnunetv2_s2ca.reporting.report_page import report_html
from nnunetv2_s2ca.reporting.runs import find_run
from nnunetv2_s2ca.synthetic.brats import write_brats2019

DATASET_ID, HELD_OUT_ID = 43, 44
CONFIGURATION = "3d_fullres"
FINGERPRINT = "nnunetv2_s2ca.demo.fingerprint"
TRAINING_MEMORY = 2e9  # bytes per fold

REPORT_FILE = "demo_report.md"
PICTURE_FILE = "demo_slices.png"
PAGE_FILE = "demo_report.html"
RULES_FILE = "postprocessing.json"


def run_demo(
    output: Path, settings: DemoSettings | None = None, *, say: Callable[[str], None] = print
) -> DemoResult:
    """Generate patients, convert, plan, train, predict, post-process, compare; all below `output`.

    An interrupted demo resumes after its last finished step.

    Args:
        output: A folder that is empty, does not exist, or holds a demo with these settings.
        settings: The defaults if None.
        say: Receives lines of progress.

    Raises:
        UserError: `output` holds something else or cannot be written to, or a step fails.
    """
    folder = resolved(Path(output))
    try:
        return _Chain(folder, settings or DemoSettings(), say).run()
    except OSError as error:
        where = f": {error.filename}" if error.filename is not None else ""
        raise UserError(
            f"{folder} cannot be used ({error.strerror or error}{where}); name a folder that you "
            "may write to, on a disk with room"
        ) from error


class _Chain:
    def __init__(self, output: Path, settings: DemoSettings, say: Callable[[str], None]):
        self.output, self.settings = output, settings
        self.started = time.monotonic()
        self.say = lambda line: say(f"[{_clock(time.monotonic() - self.started)}] {line}")
        self.brats, self.held_out = output / "BraTS2019_synthetic", output / "BraTS2019_held_out"
        self.predictions, self.processed = output / "predictions", output / "postprocessed"
        self.logs = output / "logs"

    def run(self) -> DemoResult:
        settings = self.settings
        noted = json.loads(json.dumps(asdict(settings)))
        count = settings.patients + settings.held_out
        # title, function, and the last file or folder that it writes
        steps: list[tuple[str, Callable[[], None], Callable[[], Path]]] = [
            (f"generate {count} patients", self.make_patients, lambda: self.held_out),
            (
                "convert them to nnU-Net's format",
                self.convert,
                lambda: self._dataset(RAW, HELD_OUT_ID) / "dataset.json",
            ),
            (
                "plan, preprocess and split into folds",
                self.plan,
                lambda: self._dataset(PREPROCESSED, DATASET_ID) / "splits_final.json",
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
            (
                "fit post-processing to the folds, and apply it",
                self.postprocess,
                lambda: self.processed,
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
                command_line(
                    "s2ca", "convert", "brats2019", source, "-d", dataset_id, "--overwrite"
                ),
            )

    def plan(self) -> None:
        fingerprint = (sys.executable, "-m", FINGERPRINT, str(DATASET_ID))
        self._run_one("fingerprint", fingerprint)
        arguments = ("-d", DATASET_ID, "-c", CONFIGURATION, "-np", 1, "-npfp", 1)
        self._run_one(
            "plan_and_preprocess",
            command_line("nnUNetv2_plan_and_preprocess", *arguments, "--verify_dataset_integrity"),
            # planning uses this as its number of threads
            nnUNet_n_proc_DA="1",
        )
        # otherwise each fold would write the split, and one could read it half-written
        self._run_one("splits", command_line("s2ca", "splits", "-d", DATASET_ID, "--overwrite"))

    def train(self) -> None:
        # several folds at a time, since small patches gain little from more threads; more folds
        # than cores, so that the last one does not leave cores idle
        settings = self.settings
        fitting = int(psutil.virtual_memory().available // TRAINING_MEMORY)
        at_once = max(min(2 * _cores() - 1, fitting), 1) if settings.device == "cpu" else 1
        at_once = min(at_once, len(settings.folds))
        jobs = [
            Job(
                f"fold {fold}",
                command_line(
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
            *("-i", self._dataset(RAW, HELD_OUT_ID) / "imagesTr", "-o", self.predictions),
            *("-f", *self.settings.folds, "-device", self.settings.device),
            *("-npp", 0, "-nps", 0),  # no worker processes, which take longer to start
        )
        self._run_one("predict", command_line("nnUNetv2_predict", *arguments))

    def postprocess(self) -> None:
        rules = self.output / RULES_FILE
        common = ("-np", 1, "--overwrite")
        fit = command_line(
            "s2ca", "postprocess", "--fit", "-m", self._model(), "-o", rules, *common
        )
        self._run_one("fit_postprocessing", fit)
        folders = ("-i", self.predictions, "-o", self.processed)
        apply = command_line("s2ca", "postprocess", "--apply", rules, *folders, *common)
        self._run_one("postprocess", apply)

    def compare(self) -> DemoResult:
        result = DemoResult(
            folds={
                fold: score_folder(self._validation(fold), self.brats)
                for fold in self.settings.folds
            },
            ensemble=score_folder(self.predictions, self.held_out),
            processed=score_folder(self.processed, self.held_out),
            report=self.output / REPORT_FILE,
            picture=self.output / PICTURE_FILE,
            page=self.output / PAGE_FILE,
        )
        draw_predictions(self.processed, self.held_out, result.picture)
        write_text(result.report, report_text(result, self.settings))
        self.write_page(result.page)
        return result

    def write_page(self, output: Path) -> None:
        held_out = self._dataset("nnUNet_raw", HELD_OUT_ID)
        runs = [
            find_run(self.processed, reference=held_out / "labelsTr"),
            find_run(self._model()),
        ]
        runs[0].name, runs[1].name = "ensemble on held-out patients", "cross-validation"
        write_text(output, report_html(runs, title="Demo on synthetic patients"))

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

    def _model(self) -> Path:
        """The folder of the trained folds."""
        trained = f"{self.settings.trainer}__nnUNetPlans__{CONFIGURATION}"
        return self._dataset(RESULTS, DATASET_ID) / trained

    def _validation(self, fold: int) -> Path:
        """The folder with a fold's predictions of its own patients."""
        return self._model() / f"fold_{fold}" / "validation"


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:2d}:{int(seconds) % 60:02d}"
