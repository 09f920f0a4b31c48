"""Trainers: what differs from nnU-Net's own, in a few overridden methods."""

from __future__ import annotations

from nnunetv2_s2ca.training import demo, trainer, variants

TRAINERS = {
    name: value
    for module in (trainer, variants, demo)
    for name, value in vars(module).items()
    if name.startswith("nnUNetTrainerS2CA")
}


def __getattr__(name: str) -> type[trainer.S2CANetTrainer]:
    if name in TRAINERS:
        return TRAINERS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
