"""Learning curves from the logs that nnU-Net writes into a fold's folder."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError, disk_errors_named

_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?): (.*)")
_NUMBER = r"-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|nan"
_VALUES = {
    "train_loss": re.compile(rf"train_loss ({_NUMBER})"),
    "val_loss": re.compile(rf"val_loss ({_NUMBER})"),
    "rate": re.compile(rf"Current learning rate: ({_NUMBER})"),
    "seconds": re.compile(rf"Epoch time: ({_NUMBER}) s"),
}
_EPOCH = re.compile(r"Epoch (\d+)\s*\Z")
_DICE = re.compile(r"Pseudo dice \[(.*)\]")


@dataclass
class Curve:
    """The training of a fold.

    Attributes:
        train_loss: epoch → loss on the training patches.
        val_loss: epoch → loss on the validation patches.
        dice: epoch → mean over regions of nnU-Net's pseudo Dice on validation patches.
        seconds: epoch → its duration.
        started: the first line's time.
        ended: the last line's time.
    """

    train_loss: dict[int, float] = field(default_factory=dict)
    val_loss: dict[int, float] = field(default_factory=dict)
    dice: dict[int, float] = field(default_factory=dict)
    rate: dict[int, float] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    started: datetime | None = None
    ended: datetime | None = None


@disk_errors_named("read")
def read_curve(fold: Path) -> Curve:
    """The curve of a fold; a training that was resumed has several logs, the later ones count.

    Raises:
        UserError: There is no log, or it holds no epoch.
    """
    logs = sorted(fold.glob("training_log_*.txt"))
    if not logs:
        raise UserError(f"{fold} has no training_log_….txt")
    curve = Curve()
    for log in logs:
        epoch = None
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            match = _LINE.match(line)
            if match is None:
                continue
            epoch = _read_line(curve, epoch, *match.groups())
    if not curve.train_loss:
        raise UserError(f"{logs[-1]} holds no finished epoch")
    return curve


def _read_line(curve: Curve, epoch: int | None, time: str, text: str) -> int | None:
    """Take over one line; returns the epoch that it belongs to."""
    moment = datetime.fromisoformat(time)
    curve.started = curve.started or moment
    curve.ended = moment
    beginning = _EPOCH.match(text)
    if beginning:
        return int(beginning[1])
    if epoch is None:
        return None
    for name, pattern in _VALUES.items():
        if match := pattern.match(text):
            getattr(curve, name)[epoch] = float(match[1])
    if match := _DICE.match(text):
        numbers = [float(n) for n in re.findall(_NUMBER, re.sub(r"np\.float\d+", "", match[1]))]
        known = [n for n in numbers if not math.isnan(n)]
        curve.dice[epoch] = sum(known) / len(known) if known else math.nan
    return epoch
