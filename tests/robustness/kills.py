"""Kill commands at random moments, give them again, and compare with undisturbed runs.

`python -m tests.robustness.kills [--kills 200] [--seed 0]` writes `results/robustness.md`. After
each kill, the command's processes must end within five seconds, and the output must be as it was
before or whole. The same command given again must end with the files of an undisturbed run, bit for
bit, and leave no hidden file. The exit code is 1 if anything of that fails.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
from tqdm import tqdm

from nnunetv2_s2ca.synthetic.brats import write_brats2019
from tests.checkpoints import authors
from tests.robustness.processes import COMMAND

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SECONDS_TO_END = 5.0
MARK = "S2CA_KILLS"  # in the environment of all processes of a trial
RESULTS = Path(__file__).parents[2] / "results" / "robustness.md"


@dataclass(frozen=True)
class Command:
    """A command to kill.

    Attributes:
        name: In the report.
        arguments: Of `s2ca`.
        place: The folder that it writes into; nothing else is there.
        environment: nnU-Net's folders.
        before: What `place` holds before; nothing if None.
    """

    name: str
    arguments: tuple[object, ...]
    place: Path
    environment: dict[str, str]
    before: Path | None = None

    def reset(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        if self.before is None:
            self.place.mkdir(parents=True)
        else:
            shutil.copytree(self.before, self.place)

    def start(self, mark: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            return subprocess.Popen(
                [*COMMAND, *map(str, self.arguments)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | self.environment | {"OMP_NUM_THREADS": "1", MARK: mark},
            )


@dataclass(frozen=True)
class Undisturbed:
    """An undisturbed run: its files, its seconds, and those until it first wrote something."""

    files: dict[str, bytes]
    seconds: float
    until_first_file: float


@dataclass(frozen=True)
class Trial:
    """A kill, and what was wrong afterwards."""

    command: str
    sign: signal.Signals
    faults: dict[str, str] = field(default_factory=dict)


def prepare(folder: Path) -> list[Command]:
    """Make the inputs of all commands, and list these."""
    source, smaller = folder / "source", folder / "smaller"
    write_brats2019(source, patients=6)
    write_brats2019(smaller, patients=3, seed=1)
    for name in ("raw", "preprocessed", "results"):
        (folder / name).mkdir()
    environment = {
        "nnUNet_raw": str(folder / "raw"),
        "nnUNet_preprocessed": str(folder / "preprocessed"),
        "nnUNet_results": str(folder / "results"),
    }
    _run(["convert", "brats2019", source], environment)
    dataset = folder / "raw" / "Dataset043_BraTS2019"
    predictions = folder / "predictions"
    predictions.mkdir()
    for path in (dataset / "labelsTr").iterdir():
        image = nib.load(path)
        moved = np.roll(np.asarray(image.dataobj), 2, axis=0)
        nib.save(nib.Nifti1Image(moved, image.affine, image.header), predictions / path.name)
    shutil.copyfile(dataset / "dataset.json", predictions / "dataset.json")
    weights = [
        authors.save(folder / f"fold_{seed}.pkl", authors.small_state_dict(seed=seed))
        for seed in range(2)
    ]
    old = folder / "old"
    old.mkdir()
    _run(["convert", "brats2019", smaller], environment | {"nnUNet_raw": str(old)})
    old_model = folder / "old_model"
    _run(["import-checkpoint", weights[1], "-o", old_model / "model"], environment)
    work, two = folder / "work", ("-np", 2)

    def converts(name: str, *options: object, before: Path | None = None) -> Command:
        place = work / name.replace(" ", "")
        return Command(
            name,
            ("convert", "brats2019", source, *two, *options),
            place,
            environment | {"nnUNet_raw": str(place)},
            before,
        )

    def others(name: str, *arguments: object, before: Path | None = None) -> Command:
        place = work / name.replace(" ", "")
        resolved = (place / part[1:] if str(part).startswith("@") else part for part in arguments)
        return Command(name, tuple(resolved), place, environment, before)

    truth = dataset / "labelsTr"
    return [
        converts("convert"),
        converts("convert --overwrite", "--overwrite", before=old),
        others("export", "export", "-d", 43, "-i", predictions, "-o", "@out", *two),
        others("postprocess", "postprocess", "-i", predictions, "-o", "@out", *two),
        others("evaluate", "evaluate", "--ref", truth, "--pred", predictions, "-o", "@out", *two),
        others("import-checkpoint", "import-checkpoint", *weights, "-o", "@model"),
        others(
            "import-checkpoint --overwrite",
            *("import-checkpoint", *weights, "-o", "@model", "--overwrite"),
            before=old_model,
        ),
    ]


def run_undisturbed(command: Command) -> Undisturbed:
    """Run a command twice; the runs must give the same files, bit for bit."""
    runs = []
    for _ in range(2):
        command.reset()
        initial = _names(command.place)
        start = time.monotonic()
        process = command.start("undisturbed", command.place.with_suffix(".log"))
        first = None
        while process.poll() is None:
            if first is None and _names(command.place) != initial:
                first = time.monotonic() - start
            time.sleep(0.005)
        seconds = time.monotonic() - start
        log = command.place.with_suffix(".log").read_text(errors="replace")
        if process.returncode:
            raise RuntimeError(f"{command.name} failed undisturbed:\n{log}")
        runs.append(Undisturbed(_files(command.place), seconds, first or 0.0))
    if runs[0].files != runs[1].files:
        raise RuntimeError(f"{command.name}: two undisturbed runs differ")
    return runs[1]


def kill_once(
    command: Command, undisturbed: Undisturbed, sign: signal.Signals, rng: random.Random
) -> Trial | None:
    """Kill a command at a random moment of its work; None if it had ended by then."""
    command.reset()
    initial, before = _names(command.place), _files(command.place)
    mark, log = uuid.uuid4().hex, command.place.with_suffix(".log")
    process = command.start(mark, log)
    while process.poll() is None and _names(command.place) == initial:
        time.sleep(0.002)
    # some kills before the first file is written, too
    time.sleep(rng.uniform(0, undisturbed.seconds - undisturbed.until_first_file))
    if process.poll() is not None:
        return None
    process.send_signal(sign)
    faults = {}
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        faults["does not end"] = "the command was still there after 60 s"
        process.kill()
        process.wait()
    if left := _left_over(mark):
        faults["processes left"] = ", ".join(map(str, left))
    text = log.read_text(errors="replace")
    if "Traceback" in text:
        faults["traceback"] = text
    after = {name: content for name, content in _files(command.place).items() if not _hidden(name)}
    if after not in (before, undisturbed.files) and not _kept_aside(command.place, before):
        faults["half an output, or loss"] = ", ".join(sorted(after))
    code, text = _attempt(command, log)
    files = _files(command.place)
    # a command that was killed after its work was done has nothing to do
    if code and not ("exist" in text and files == undisturbed.files):
        faults["second run fails"] = text
    visible = {name: content for name, content in files.items() if not _hidden(name)}
    if visible != undisturbed.files:
        faults["not identical"] = str(sorted(visible.keys() ^ undisturbed.files.keys()))
    if hidden := sorted(name for name in files if _hidden(name)):
        faults["hidden files left"] = ", ".join(hidden)
    return Trial(command.name, sign, faults)


def run_kills(commands: Sequence[Command], *, kills: int, seed: int) -> list[Trial]:
    """Kill the commands in turn, by the signals in turn."""
    rng = random.Random(seed)
    undisturbed = {command.name: run_undisturbed(command) for command in commands}
    trials: list[Trial] = []
    bar = tqdm(total=kills, desc="kills")
    while len(trials) < kills:
        number = len(trials)
        command = commands[number % len(commands)]
        sign = SIGNALS[number // len(commands) % len(SIGNALS)]
        trial = kill_once(command, undisturbed[command.name], sign, rng)
        if trial is None:
            continue
        trials.append(trial)
        bar.update()
        for fault, detail in trial.faults.items():
            bar.write(f"{command.name}, {sign.name}: {fault}: {detail}")
    return trials


def report(trials: Sequence[Trial], *, seed: int) -> str:
    """A table with a row for each command."""
    faults = sum(bool(trial.faults) for trial in trials)
    lines = [
        "# Killed commands",
        "",
        f"`python -m tests.robustness.kills --kills {len(trials)} --seed {seed}`: each command is "
        "killed at a random moment of its work, and given again. It passes if all its processes "
        f"are gone within {SECONDS_TO_END:g} s, the output was untouched or whole after the kill, "
        "and the second run ends with the files of an undisturbed run, bit for bit, and no hidden "
        "file. Six synthetic patients, two worker processes.",
        "",
        f"| command | {' | '.join(sign.name for sign in SIGNALS)} | faults |",
        f"|---|{'---:|' * (len(SIGNALS) + 1)}",
    ]
    for name in dict.fromkeys(trial.command for trial in trials):
        own = [trial for trial in trials if trial.command == name]
        counts = [str(sum(trial.sign == sign for trial in own)) for sign in SIGNALS]
        found = sorted({fault for trial in own for fault in trial.faults})
        bad = sum(bool(trial.faults) for trial in own)
        cells = [f"`{name}`", *counts, f"{bad}: {', '.join(found)}" if bad else "0"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"{len(trials)} kills, {faults} with a fault.", ""]
    return "\n".join(lines)


def _attempt(command: Command, log: Path) -> tuple[int, str]:
    process = command.start("again", log)
    return process.wait(), log.read_text(errors="replace")


def _run(arguments: Sequence[object], environment: dict[str, str]) -> None:
    subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=os.environ | environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))  # noqa: PTH208 (paths would take time)


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in Path(name).parts)


def _kept_aside(place: Path, before: dict[str, bytes]) -> bool:
    """Whether the former output stands where the next run restores it from."""
    if not before:
        return False
    (name,) = {Path(file).parts[0] for file in before}
    kept = {
        str(Path(name, file)): content
        for file, content in _files(place / f".{name}.former").items()
    }
    return not (place / name).exists() and kept == before


def _left_over(mark: str) -> list[psutil.Process]:
    """Processes of a trial that live on after the time that they have to end."""
    limit = time.monotonic() + SECONDS_TO_END
    while (found := _marked(mark)) and time.monotonic() < limit:
        time.sleep(0.05)
    return found


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.Error, OSError):  # it has ended, or is another user's
            continue
    return found


def main() -> int:
    """Run the kills and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: %(default)s")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trials = run_kills(prepare(Path(folder)), kills=args.kills, seed=args.seed)
    text = report(trials, seed=args.seed)
    args.output.write_text(text, encoding="utf-8")
    print(text)
    return int(any(trial.faults for trial in trials))


if __name__ == "__main__":
    sys.exit(main())
