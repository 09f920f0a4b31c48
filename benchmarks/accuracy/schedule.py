"""Learning rates over the steps of a run, and the optimisers of a recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from nnunetv2_s2ca.training.lr_schedule import PAPER
from nnunetv2_s2ca.training.parameter_groups import wide_layers_apart

LOWEST = 1e-3  # of the highest rate


def relative_rate(progress: float, *, schedule: str, warmup: float) -> float:
    """The learning rate relative to its maximum at `progress`, from 0 to 1."""
    if progress < warmup:
        return max(progress / warmup, LOWEST)
    if schedule == "poly":
        return (1 - progress) ** 0.9
    start = PAPER.plateau_end if schedule == "paper" else warmup
    decayed = max((progress - start) / (1 - start), 0.0)
    return max((1 + math.cos(math.pi * decayed)) / 2, LOWEST)


class RecipeSchedule:
    """A recipe's rates, stepped as nnU-Net's trainer does: `step(epoch)`, with fractions."""

    def __init__(self, optimizer: Optimizer, recipe: Mapping[str, Any], epochs: int):
        self.optimizer, self.recipe, self.epochs = optimizer, recipe, epochs
        self.highest = [group["lr"] for group in optimizer.param_groups]

    def step(self, epoch: float) -> None:
        """Set the rate of every group."""
        height = relative_rate(
            epoch / self.epochs, schedule=self.recipe["schedule"], warmup=self.recipe["warmup"]
        )
        for group, highest in zip(self.optimizer.param_groups, self.highest, strict=True):
            group["lr"] = highest * height


def make_optimizer(network: nn.Module, recipe: Mapping[str, Any]) -> Optimizer:
    """The optimiser that a recipe names."""
    rate, decay, wide_rate = recipe["rate"], recipe["decay"], recipe["wide_rate"]
    parameters = (
        network.parameters()
        if wide_rate is None
        else wide_layers_apart(network, rate, factor=wide_rate)
    )
    if recipe["optimiser"] == "sgd":
        return torch.optim.SGD(parameters, rate, weight_decay=decay, momentum=0.99, nesterov=True)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe["optimiser"]]
    return kind(parameters, rate, betas=tuple(recipe["betas"]), weight_decay=decay)
