"""Kill commands at random moments, give them again, and compare with undisturbed runs.

`python -m tests.robustness.kills [--kills 200] [--seed 0]` writes `results/robustness.md`. After
each kill, the command's processes must end within five seconds, and the output must be as it was
before or whole. The same command given again must end with the files of an undisturbed run, bit for
bit, and leave no hidden file. The exit code is 1 if anything of that fails.

With `--record FILE`, each trial is added to a file, and a run that was cut off goes on from it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import torch

from tests.robustness.forked import HANGS, SECONDS_TO_END, Forked, import_all
from tests.robustness.killed_commands import (
    Command,
    on_checkpoints,
    on_images,
    on_models,
    on_patients,
)

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
RESULTS = Path(__file__).parents[2] / "results" / "robustness.md"
INTERVAL = 0.002  # seconds between two looks at the files
TRIES = 50
# what Python prints if a process that is just starting others is killed outright: they find their
# pipe closed before any code of ours runs
ORPHAN = re.compile(
    r"^Traceback .*\n(  .*\n)*  .*multiprocessing/spawn.py.*\n(  .*\n)*EOFError.*\n", re.MULTILINE
)


@dataclass
class Undisturbed:
    """Undisturbed runs: their files, and how long the work takes.

    Attributes:
        files: Name → content.
        seconds: From the first file, which may be the lock, to the end.
        names: Number of names, hidden ones included, that came about meanwhile.
    """

    files: dict[str, bytes]
    seconds: float
    names: int


@dataclass(frozen=True)
class Trial:
    """A kill, and what was wrong afterwards."""

    command: str
    sign: signal.Signals
    faults: dict[str, str] = field(default_factory=dict)


def run_kills(
    commands: Sequence[Command], *, kills: int, seed: int, record: Path | None = None
) -> list[Trial]:
    """Kill the commands in turn, by the signals in turn; prints each fault."""
    trials = _recorded(record)[:kills]
    undisturbed = {command.name: run_undisturbed(command) for command in commands}
    while (number := len(trials)) < kills:
        command = commands[number % len(commands)]
        sign = SIGNALS[number // len(commands) % len(SIGNALS)]
        trial = kill(command, undisturbed[command.name], sign, random.Random(f"{seed} {number}"))
        trials.append(trial)
        if record is not None:
            with record.open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps([trial.command, sign.name, trial.faults])}\n")
        print(f"{len(trials)} of {kills}: {command.name}, {sign.name}", flush=True)
        for fault, detail in trial.faults.items():
            print(f"FAULT: {fault}: {detail}", flush=True)
    return trials


def run_undisturbed(command: Command) -> Undisturbed:
    """Run a command as it is killed and as it is given again; both must give the same files."""
    files = []
    for more in (command.killed, command.again):
        command.reset()
        seen = _Seen(command.place)
        process = command.start(more)
        seconds = seen.watch(process)
        if process.wait():
            raise RuntimeError(f"{command.name} failed undisturbed:\n{_text(command.log)}")
        files.append(_files(command.place))
        if more is command.killed:
            undisturbed = Undisturbed(files[0], seconds, len(seen.names))
    if files[0] != files[1]:
        raise RuntimeError(f"{command.name}: two undisturbed runs differ")
    return undisturbed


def kill(
    command: Command, undisturbed: Undisturbed, sign: signal.Signals, rng: random.Random
) -> Trial:
    """Kill a command at a random moment of its work, and give it again.

    Half of the moments are points in time, half of them the appearance of one of the files, since
    most of a short run is the start of its workers.
    """
    for _ in range(TRIES):
        command.reset()
        before = _files(command.place)
        seen = _Seen(command.place)
        process = command.start(command.killed)
        if rng.random() < 0.5:
            wanted = rng.randint(1, undisturbed.names)
            seconds = seen.watch(process, names=wanted)
        else:
            limit = rng.uniform(0, undisturbed.seconds)
            start = seen.watch(process, names=1)
            seconds = start + seen.watch(process, seconds=limit)
        if not process.ended():
            os.kill(process.pid, sign)
            return Trial(command.name, sign, _faults(command, sign, process, undisturbed, before))
        undisturbed.seconds = seconds
    raise RuntimeError(f"{command.name} ended {TRIES} times before it could be killed")


class _Seen:
    """The names that appear in a folder after this object was made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.initial = set(_names(folder))
        self.names: set[str] = set()

    def watch(self, process: Forked, *, names: float = inf, seconds: float = HANGS) -> float:
        """Watch until there are so many names, the process ends, or the time is over.

        Returns:
            The seconds of this call since the first new name.
        """
        limit = time.monotonic() + seconds
        first = time.monotonic() if self.names else None
        while not process.ended() and len(self.names) < names and time.monotonic() < limit:
            self.names |= set(_names(self.folder)) - self.initial
            if first is None and self.names:
                first = time.monotonic()
            time.sleep(INTERVAL)
        return 0.0 if first is None else time.monotonic() - first


def report(trials: Sequence[Trial], *, seed: int) -> str:
    """A table with a row for each command."""
    faults = sum(bool(trial.faults) for trial in trials)
    lines = [
        "# Killed commands",
        "",
        f"`python -m tests.robustness.kills --kills {len(trials)} --seed {seed}`: each command is "
        "killed at a random moment of its work, with two workers, and given again, without. It "
        f"passes if all its processes are gone within {SECONDS_TO_END:g} s (in which they compute "
        "or sleep; waiting for a processor does not count), the output (of `segment -i`, each "
        "file) was untouched or whole after the kill, and the second run ends with the files of "
        "an undisturbed run, bit for bit, and no hidden file. A traceback is a fault, but for "
        "Python's own of a worker that was just starting when SIGKILL ended its command. Six "
        "synthetic patients; two files of small weights; a small model.",
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


def _faults(
    command: Command,
    sign: signal.Signals,
    process: Forked,
    undisturbed: Undisturbed,
    before: dict[str, bytes],
) -> dict[str, str]:
    faults = {}
    if left := process.left_over():
        faults["processes left"] = ", ".join(map(str, left))
        process.kill_all()
    process.wait()
    text = _text(command.log)
    if sign is signal.SIGKILL:
        text = ORPHAN.sub("", text)
    if "Traceback" in text:
        faults["traceback"] = text
    after = _visible(_files(command.place))
    whole = after in (before, undisturbed.files) or (
        command.one_by_one and after.items() <= undisturbed.files.items()
    )
    if not whole and not _kept_aside(command.place, before):
        faults["half an output, or loss"] = ", ".join(sorted(after))
    return faults | _faults_of_second_run(command, undisturbed)


def _faults_of_second_run(command: Command, undisturbed: Undisturbed) -> dict[str, str]:
    faults = {}
    code, files = command.start(command.again).wait(), _files(command.place)
    text = _text(command.log)
    # a command that was killed after its work was done has nothing to do
    if code and not ("exist" in text and files == undisturbed.files):
        faults["second run fails"] = text
    if (visible := _visible(files)) != undisturbed.files:
        faults["not identical"] = str(sorted(visible.keys() ^ undisturbed.files.keys()))
    if hidden := sorted(files.keys() - visible.keys()):
        faults["hidden files left"] = ", ".join(hidden)
    return faults


def _recorded(record: Path | None) -> list[Trial]:
    if record is None or not record.exists():
        return []
    rows = map(json.loads, record.read_text(encoding="utf-8").splitlines())
    return [Trial(command, signal.Signals[sign], faults) for command, sign, faults in rows]


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
    names = []
    for _, folders, files in os.walk(folder):
        names += folders + files
    return names


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


def main() -> int:
    """Run the kills and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: %(default)s")
    parser.add_argument("--record", type=Path, help="file of the trials so far, to go on from")
    parser.add_argument("--only", nargs="+", metavar="COMMAND", help="default: all")
    args = parser.parse_args()
    torch.set_num_threads(1)  # other threads do not fork
    import_all()
    with tempfile.TemporaryDirectory() as folder:
        commands = [
            command
            for make in (on_images, on_checkpoints, on_models, on_patients)
            for command in make(Path(folder))
            if not args.only or command.name in args.only
        ]
        trials = run_kills(commands, kills=args.kills, seed=args.seed, record=args.record)
    text = report(trials, seed=args.seed)
    args.output.write_text(text, encoding="utf-8")
    print(text)
    return int(any(trial.faults for trial in trials))


if __name__ == "__main__":
    sys.exit(main())
