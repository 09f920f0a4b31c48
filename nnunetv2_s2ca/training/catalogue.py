"""The table of `s2ca trainers`."""

from __future__ import annotations

import torch

from nnunetv2_s2ca.architecture.s2ca_net import S2CANet
from nnunetv2_s2ca.training import TRAINERS
from nnunetv2_s2ca.training.lr_schedule import Phases
from nnunetv2_s2ca.training.trainer import S2CANetTrainer, nnUNetTrainerS2CA

# nnU-Net sets these in the constructor, which needs a dataset
NNUNET_LR = 1e-2
NNUNET_EPOCHS = 1000
NNUNET_ITERATIONS = 250
BRATS = {"input_channels": 4, "num_classes": 3, "patch_size": (128, 128, 128)}


def describe_trainers() -> str:
    """A table of the trainers: name, parameters on BraTS, recipe, description."""
    rows = [("trainer", "parameters", "recipe", "")]
    rows += [
        (
            name,
            f"{count_parameters(trainer) / 1e6:.2f} M",
            _recipe(trainer),
            (trainer.__doc__ or "").partition("\n")[0],
        )
        for name, trainer in TRAINERS.items()
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ["  ".join([*map(str.ljust, row[:3], widths), row[3]]).rstrip() for row in rows]
    lines.append("Parameters: for BraTS, four channels, three regions, patches of 128×128×128.")
    return "\n".join(lines)


def count_parameters(trainer: type[S2CANetTrainer]) -> int:
    """Parameters of the trainer's network for BraTS at patches of 128³."""
    with torch.device("meta"):  # needs no memory
        network = S2CANet(**BRATS, **trainer.network_arguments)  # type: ignore[arg-type]
    return sum(parameter.numel() for parameter in network.parameters())


def _recipe(trainer: type[S2CANetTrainer]) -> str:
    epochs = getattr(trainer, "length_in_epochs", None) or NNUNET_EPOCHS
    own = getattr(trainer, "iterations_per_epoch", None)
    iterations = NNUNET_ITERATIONS if own is None else own[0]
    weights, prior = trainer.deep_supervision_weights, trainer.foreground_prior
    factor = getattr(trainer, "wide_lr_factor", 1)
    return ", ".join(
        [
            f"Adam {trainer.max_lr:g}, {_schedule(trainer.phases)}"
            if issubclass(trainer, nnUNetTrainerS2CA)
            else f"nnU-Net's SGD {NNUNET_LR:g}",
            f"{epochs} {'epoch' if epochs == 1 else 'epochs'} of {iterations} iterations",
            f"outputs {'/'.join(map(str, weights))}" if weights else "nnU-Net's output weights",
            *([f"prior {prior:.0%}"] if prior else []),
            *([f"2D layers {factor:g} of the rate"] if factor != 1 else []),
        ]
    )


def _schedule(phases: Phases) -> str:
    plateau = phases.plateau_end > phases.warmup_end
    return "warm-up, plateau, cosine" if plateau else "warm-up, cosine"
