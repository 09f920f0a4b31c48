"""The commands that `tests.robustness.kills` kills, with their inputs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunetv2_s2ca.synthetic.brats import write_brats2019
from tests.checkpoints import authors
from tests.robustness.forked import Forked, fork
from tests.segmentation import tiny_model

# a command that is killed has workers; to be given again, it needs none
TWO_PROCESSES, ONE_PROCESS = ("-np", 2), ("-np", 1)


@dataclass(frozen=True)
class Command:
    """A command to kill.

    Attributes:
        name: In the report.
        arguments: Of `s2ca`.
        killed: More arguments, when it is to be killed.
        again: More arguments, when it is given again.
        place: The folder that it writes into; nothing else is there.
        environment: nnU-Net's folders.
        before: What `place` holds before; nothing if None.
        one_by_one: Its outputs appear one after the other, each of them whole.
    """

    name: str
    arguments: Sequence[object]
    place: Path
    killed: Sequence[object] = ()
    again: Sequence[object] = ()
    environment: dict[str, str] = field(default_factory=dict)
    before: Path | None = None
    one_by_one: bool = False

    @property
    def log(self) -> Path:
        return self.place.with_suffix(".log")

    def reset(self) -> None:
        """Make `place` what it is before the command."""
        shutil.rmtree(self.place, ignore_errors=True)
        if self.before is None:
            self.place.mkdir(parents=True)
        else:
            shutil.copytree(self.before, self.place)

    def start(self, more: Sequence[object]) -> Forked:
        """Start the command, which prints to `log`."""
        environment = {**self.environment, "OMP_NUM_THREADS": "1"}
        return fork((*self.arguments, *more), environment, self.log)


def on_images(folder: Path) -> list[Command]:
    """Commands that work on a download of six synthetic patients, and on predictions of them."""
    source, smaller, old, raw = (folder / name for name in ("source", "smaller", "old", "raw"))
    write_brats2019(source, patients=6)
    write_brats2019(smaller, patients=3, seed=1)
    for place in (old, raw, folder / "preprocessed", folder / "results"):
        place.mkdir()
    folders = {
        "nnUNet_raw": str(raw),
        "nnUNet_preprocessed": str(folder / "preprocessed"),
        "nnUNet_results": str(folder / "results"),
    }
    log = folder / "preparing.log"
    _run(["convert", "brats2019", source], folders, log, ONE_PROCESS)
    _run(["convert", "brats2019", smaller], folders | {"nnUNet_raw": str(old)}, log, ONE_PROCESS)
    dataset, predictions, work = raw / "Dataset043_BraTS2019", folder / "predictions", folder / "w"
    _write_predictions(dataset, predictions)
    writers = ("convert", "replace", "export", "postprocess", "evaluate", "report", "view")
    to = {name: work / name for name in writers}

    def converting(place: Path) -> dict[str, str]:
        return folders | {"nnUNet_raw": str(place)}

    convert = ("convert", "brats2019", source)
    export = ("export", "-d", 43, "-i", predictions, "-o", to["export"] / "out")
    postprocess = ("postprocess", "-i", predictions, "-o", to["postprocess"] / "out")
    evaluate = ("evaluate", "--ref", dataset / "labelsTr", "--pred", predictions)
    output = ("-o", to["evaluate"] / "out")
    shown = (predictions, "--ref", dataset / "labelsTr", "--images", dataset / "imagesTr")
    report, view = ("report", *shown), ("view", *shown)
    preprocessed = work / "splits"
    with_folds = folders | {"nnUNet_preprocessed": str(preprocessed)}
    commands = [
        Command("convert", convert, to["convert"], environment=converting(to["convert"])),
        Command(
            "convert --overwrite",
            (*convert, "--overwrite"),
            to["replace"],
            environment=converting(to["replace"]),
            before=old,
        ),
        Command("export", export, to["export"], environment=folders),
        Command("postprocess", postprocess, to["postprocess"], environment=folders),
        Command("evaluate", (*evaluate, *output), to["evaluate"], environment=folders),
        Command("report", (*report, "-o", to["report"] / "out.html"), to["report"]),
    ]
    commands = [replace(command, killed=TWO_PROCESSES, again=ONE_PROCESS) for command in commands]
    return [
        *commands,
        Command("view", (*view, "--static", to["view"] / "out.html"), to["view"]),
        Command("splits", ("splits", "-d", 43), preprocessed, environment=with_folds),
    ]


def on_checkpoints(folder: Path) -> list[Command]:
    """Commands that import two files of weights."""
    weights = _save_weights(folder)
    old, new, replaced = (folder / name for name in ("old_model", "new_model", "replaced_model"))
    _run(["import-checkpoint", weights[1], "-o", old / "model"], {}, folder / "preparing.log")
    start = ("import-checkpoint", *weights, "-o")
    return [
        Command("import-checkpoint", (*start, new / "model"), new),
        Command(
            "import-checkpoint --overwrite",
            (*start, replaced / "model", "--overwrite"),
            replaced,
            before=old,
        ),
    ]


def on_models(folder: Path) -> list[Command]:
    """Commands that write a model of two folds to one file, a folder, or a container's context."""
    model, packed, other = folder / "trained", folder / "packed.zip", folder / "other.zip"
    log, weights = folder / "preparing.log", _save_weights(folder)
    _run(["import-checkpoint", *weights, "-o", model], {}, log)
    _run(["import-checkpoint", weights[1], "-o", folder / "one_fold"], {}, log)
    _run(["model", "pack", "-m", model, "-o", packed], {}, log)
    _run(["model", "pack", "-m", folder / "one_fold", "-o", other], {}, log)
    old_file, old_model = folder / "old_file", folder / "old_install"
    old_file.mkdir()
    shutil.copyfile(other, old_file / "packed.zip")
    _run(["model", "install", other, "-o", old_model / "model"], {}, log)
    to = {name: folder / name for name in ("pack", "repack", "install", "reinstall", "container")}
    pack, install = ("model", "pack", "-m", model, "-o"), ("model", "install", packed, "-o")
    container = ("container", "-m", packed, "--edition", "brats2023-gli", "-o")
    return [
        Command("model pack", (*pack, to["pack"] / "packed.zip"), to["pack"]),
        Command(
            "model pack --overwrite",
            (*pack, to["repack"] / "packed.zip", "--overwrite"),
            to["repack"],
            before=old_file,
        ),
        Command("model install", (*install, to["install"] / "model"), to["install"]),
        Command(
            "model install --overwrite",
            (*install, to["reinstall"] / "model", "--overwrite"),
            to["reinstall"],
            before=old_model,
        ),
        Command("container", (*container, to["container"] / "out"), to["container"]),
    ]


def on_patients(folder: Path) -> list[Command]:
    """Commands that segment three patients with a small model of two folds."""
    source, one, many = (folder / name for name in ("patients", "segment", "segment_many"))
    patients = write_brats2019(source, patients=3, seed=2, spacing=tiny_model.SPACING)
    model = tiny_model.write_model(folder / "models")
    environment = {"nnUNet_extTrainer": str(tiny_model.provide_trainer(folder))}
    scans = [
        part
        for name in ("t1", "t1ce", "t2", "flair")
        for part in (f"--{name}", patients[0] / f"{patients[0].name}_{name}.nii.gz")
    ]
    predict = ("segment", "-m", model, "-device", "cpu")
    return [
        Command(
            "segment", (*predict, *scans, "-o", one / "out.nii.gz"), one, environment=environment
        ),
        Command(
            "segment -i",
            (*predict, "-i", source, "-o", many / "out", "--continue_prediction"),
            many,
            environment=environment,
            one_by_one=True,
        ),
    ]


def _save_weights(folder: Path) -> list[Path]:
    """The authors' files of two folds."""
    return [
        authors.save(folder / f"fold_{seed}.pkl", authors.small_state_dict(seed=seed))
        for seed in range(2)
    ]


def _write_predictions(dataset: Path, predictions: Path) -> None:
    """Predictions that are wrong here and there: the truth, moved by two voxels."""
    predictions.mkdir()
    for path in (dataset / "labelsTr").iterdir():
        image = nib.load(path)
        moved = np.roll(np.asarray(image.dataobj), 2, axis=0)
        nib.save(nib.Nifti1Image(moved, image.affine, image.header), predictions / path.name)
    shutil.copyfile(dataset / "dataset.json", predictions / "dataset.json")


def _run(
    arguments: Sequence[object], environment: dict[str, str], log: Path, more: Sequence[object] = ()
) -> None:
    if fork((*arguments, *more), environment, log).wait():
        raise RuntimeError(f"failed:\n{log.read_text()}")
