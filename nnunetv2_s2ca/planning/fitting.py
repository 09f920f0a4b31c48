"""The largest patch that a card takes, and what fits a card of some memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from nnunetv2_s2ca.planning.memory import PAPER, Step, needed_gb
from nnunetv2_s2ca.planning.patch_size import smaller_patch

# Channels of the four levels, by trainer.
TRAINERS = {
    "nnUNetTrainerS2CA": (16, 32, 64, 128),
    "nnUNetTrainerS2CA_S": (8, 16, 32, 64),
    "nnUNetTrainerS2CA_L": (32, 64, 128, 256),
}


def fit_to_memory(step: Step, memory_gb: float) -> Step:
    """The step with the largest patch that fits; with the smallest there is, if none does.

    Before a patch becomes smaller, parts of the network are computed twice, which keeps less.
    """
    while needed_gb(step) > memory_gb:
        if not step.checkpointing:
            step = replace(step, checkpointing=True)
            continue
        patch = smaller_patch(step.patch_size, step.strides)
        if patch is None:
            break
        step = replace(step, patch_size=patch, checkpointing=False)
    return step


@dataclass(frozen=True)
class Advice:
    """What to train on a card, and with which plan; estimated, not measured.

    Attributes:
        text: What fits.
        remedy: What to do where the paper's patch does not fit.
    """

    text: str
    remedy: str = ""


def advise(memory_gb: float) -> Advice:
    """Which trainer and plan fit a card, for BraTS.

    Args:
        memory_gb: The card's memory, in 10⁹ bytes.
    """
    steps = {name: replace(PAPER, features=features) for name, features in TRAINERS.items()}
    needed = {name: needed_gb(step) for name, step in steps.items()}
    patch = "128×128×128 in batches of 2"
    fitting = [f"{name} ({gb:.1f} GB)" for name, gb in needed.items() if gb <= memory_gb]
    if needed["nnUNetTrainerS2CA"] <= memory_gb:
        return Advice(f"patches of {patch}, by `-pl S2CAPlanner`: {', '.join(fitting)}, estimated")
    smaller = fit_to_memory(PAPER, memory_gb)
    if needed_gb(smaller) > memory_gb:
        return Advice(
            f"too small: the smallest patch takes {needed_gb(smaller):.1f} GB, estimated",
            "add `-device cpu` to nnU-Net's commands, or use another card",
        )
    size = "×".join(map(str, smaller.patch_size))
    target = math.floor(10 * memory_gb) / 10
    least = needed["nnUNetTrainerS2CA"]
    return Advice(
        f"patches of {patch} need {least:.1f} GB with nnUNetTrainerS2CA, estimated"
        + (f"; these fit: {', '.join(fitting)}" if fitting else ""),
        f"plan with `-pl S2CAPlanner -gpu_memory_target {target}`, which makes patches of {size}"
        + (" and computes parts of the network twice" if smaller.checkpointing else ""),
    )
