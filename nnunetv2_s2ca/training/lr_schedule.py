"""Learning rates over a run: warm-up, plateau, cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

MIN_LR = 1e-6


@dataclass(frozen=True)
class Phases:
    """Where a run's phases end, as shares of its length.

    Attributes:
        warmup_end: End of the linear rise.
        plateau_end: End of the constant rate, from which it falls along half a cosine.
    """

    warmup_end: float
    plateau_end: float


# Zhou et al., IEEE TMI 2024: 400 epochs, 5 of warm-up, 50 constant, 345 of decay
PAPER = Phases(5 / 400, 55 / 400)
# for short runs, where the paper's warm-up would be a few steps and its plateau too long
SHORT = Phases(0.1, 0.1)


def learning_rate(
    progress: float, *, max_lr: float, min_lr: float = MIN_LR, phases: Phases = PAPER
) -> float:
    """The learning rate at `progress`, from 0 to 1.

    It rises linearly from `min_lr` to `max_lr`, stays, and returns along half a cosine.
    """
    if progress < phases.warmup_end:
        height = progress / phases.warmup_end
    elif progress < phases.plateau_end:
        height = 1.0
    else:
        decay = min((progress - phases.plateau_end) / (1 - phases.plateau_end), 1.0)
        height = (1 + math.cos(math.pi * decay)) / 2
    return min_lr + (max_lr - min_lr) * height


class WarmupPlateauCosineLR(LRScheduler):
    """The schedule as nnU-Net's trainer steps it: `step(epoch)` sets the epoch.

    The epoch may be a fraction. There is no other state, as in nnU-Net's `PolyLRScheduler`, since
    nnU-Net's checkpoints do not keep it. PyTorch's SequentialLR needs such state; its LambdaLR
    does not, but warns that `step(epoch)` is deprecated.

    Args:
        optimizer: The learning rates of its groups are the maxima.
        num_epochs: Length of the run.
        phases: Ends of warm-up and plateau.
    """

    def __init__(self, optimizer: Optimizer, num_epochs: int, *, phases: Phases = PAPER):
        self.num_epochs, self.phases = num_epochs, phases
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of each group at `last_epoch`."""
        progress = self.last_epoch / self.num_epochs
        return [
            learning_rate(progress, max_lr=float(base), phases=self.phases)
            for base in self.base_lrs
        ]

    def step(self, epoch: float | None = None) -> None:
        """Set the learning rates to those at `epoch` (0 if not given), fractions included."""
        self.last_epoch = 0 if epoch is None else epoch  # type: ignore[assignment]
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
