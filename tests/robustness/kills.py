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
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from tqdm import tqdm

from tests.robustness.killed_commands import MARK, Command, on_checkpoints, on_images

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SECONDS_TO_END = 5.0
RESULTS = Path(__file__).parents[2] / "results" / "robustness.md"


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


def run_kills(commands: Sequence[Command], *, kills: int, seed: int) -> list[Trial]:
    """Kill the commands in turn, by the signals in turn."""
    rng = random.Random(seed)
    undisturbed = {command.name: run_undisturbed(command) for command in commands}
    trials: list[Trial] = []
    bar = tqdm(total=kills, desc="kills")
    while len(trials) < kills:
        command = commands[len(trials) % len(commands)]
        sign = SIGNALS[len(trials) // len(commands) % len(SIGNALS)]
        trial = kill_once(command, undisturbed[command.name], sign, rng)
        if trial is None:
            continue
        trials.append(trial)
        bar.update()
        for fault, detail in trial.faults.items():
            bar.write(f"{command.name}, {sign.name}: {fault}: {detail}")
    return trials


def run_undisturbed(command: Command) -> Undisturbed:
    """Run a command twice; the runs must give the same files, bit for bit."""
    runs = []
    for _ in range(2):
        command.reset()
        initial, start, first = _names(command.place), time.monotonic(), None
        process = command.start("undisturbed")
        while process.poll() is None:
            if first is None and _names(command.place) != initial:
                first = time.monotonic() - start
            time.sleep(0.005)
        seconds = time.monotonic() - start
        if process.returncode:
            raise RuntimeError(f"{command.name} failed undisturbed:\n{_text(command.log)}")
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
    mark = uuid.uuid4().hex
    process = command.start(mark)
    # its work begins with its first file, which may be the lock
    while process.poll() is None and _names(command.place) == initial:
        time.sleep(0.002)
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
    if "Traceback" in (text := _text(command.log)):
        faults["traceback"] = text
    after = _visible(_files(command.place))
    if after not in (before, undisturbed.files) and not _kept_aside(command.place, before):
        faults["half an output, or loss"] = ", ".join(sorted(after))
    return Trial(command.name, sign, faults | _faults_of_second_run(command, undisturbed))


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


def _faults_of_second_run(command: Command, undisturbed: Undisturbed) -> dict[str, str]:
    faults = {}
    code, files = command.start("again").wait(), _files(command.place)
    text = _text(command.log)
    # a command that was killed after its work was done has nothing to do
    if code and not ("exist" in text and files == undisturbed.files):
        faults["second run fails"] = text
    if (visible := _visible(files)) != undisturbed.files:
        faults["not identical"] = str(sorted(visible.keys() ^ undisturbed.files.keys()))
    if hidden := sorted(files.keys() - visible.keys()):
        faults["hidden files left"] = ", ".join(hidden)
    return faults


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _visible(files: dict[str, bytes]) -> dict[str, bytes]:
    return {
        name: content
        for name, content in files.items()
        if not any(part.startswith(".") for part in Path(name).parts)
    }


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))  # noqa: PTH208 (paths would take time)


def _text(log: Path) -> str:
    return log.read_text(errors="replace")


def _kept_aside(place: Path, before: dict[str, bytes]) -> bool:
    """Whether the former output stands where the next run restores it from."""
    if not before:
        return False
    (name,) = {Path(file).parts[0] for file in before}
    kept = _files(place / f".{name}.former")
    return not (place / name).exists() and before == {
        str(Path(name, file)): content for file, content in kept.items()
    }


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
        commands = on_images(Path(folder)) + on_checkpoints(Path(folder))
        trials = run_kills(commands, kills=args.kills, seed=args.seed)
    text = report(trials, seed=args.seed)
    args.output.write_text(text, encoding="utf-8")
    print(text)
    return int(any(trial.faults for trial in trials))


if __name__ == "__main__":
    sys.exit(main())
