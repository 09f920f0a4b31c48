"""The rows of the paper's tables, and shorter runs, as trainers."""

from __future__ import annotations

from typing import Any, ClassVar

from nnunetv2_s2ca.training.lr_schedule import SHORT, Phases
from nnunetv2_s2ca.training.trainer import S2CANetTrainer, nnUNetTrainerS2CA

NO_BRANCHES: dict[str, Any] = {"encoder_branches": (), "decoder_branches": ()}


class nnUNetTrainerS2CA_SGD(S2CANetTrainer):
    """S2CA-Net with nnU-Net's optimiser and schedule: SGD, learning rate 1e-2, polynomial decay."""


class nnUNetTrainerS2CA_S(nnUNetTrainerS2CA):
    """S2CA-Net-S: half the channels at each level."""

    network_arguments: ClassVar = {"features_per_stage": (8, 16, 32, 64)}


class nnUNetTrainerS2CA_L(nnUNetTrainerS2CA):
    """S2CA-Net-L: twice the channels at each level."""

    network_arguments: ClassVar = {"features_per_stage": (32, 64, 128, 256)}


class nnUNetTrainerS2CA_noWDS(nnUNetTrainerS2CA):
    """Ablation B + LGSM + MCA + MS-ADC: all modules, without weighted deep supervision.

    The paper adds the weights last; the rows before have nnU-Net's.
    """

    deep_supervision_weights = None


class nnUNetTrainerS2CA_B(nnUNetTrainerS2CA_noWDS):
    """Ablation B: only residual blocks, without LGSM, MCA, MS-ADC and WDS."""

    network_arguments: ClassVar = {
        **NO_BRANCHES,
        "context_aggregation": False,
        "deformable_skips": False,
    }


class nnUNetTrainerS2CA_B_LGSM(nnUNetTrainerS2CA_noWDS):
    """Ablation B + LGSM: with global branches, without MCA, MS-ADC and WDS."""

    network_arguments: ClassVar = {"context_aggregation": False, "deformable_skips": False}


class nnUNetTrainerS2CA_B_LGSM_MCA(nnUNetTrainerS2CA_noWDS):
    """Ablation B + LGSM + MCA: plain skip connections, without MS-ADC and WDS."""

    network_arguments: ClassVar = {"deformable_skips": False}


class nnUNetTrainerS2CA_short(nnUNetTrainerS2CA):
    """nnUNetTrainerS2CA for up to 10 epochs: 3e-3, 10 % warm-up, then cosine, a prior of 2 %.

    The paper's 1e-3 is meant for hundreds of epochs and leaves a short run half trained. Without
    the prior (`start_from_prior`), a region can stay empty for hundreds of steps. The 2D layers of
    LGSM and MCA, which are an order of magnitude wider than the others, get a tenth of the rate
    (`wide_layers_apart`). The outputs have nnU-Net's weights, which beat the paper's in short runs.
    `results/accuracy` has the measurements, on synthetic patients.
    """

    deep_supervision_weights = None
    length_in_epochs: ClassVar = 10
    max_lr: ClassVar = 3e-3
    phases: ClassVar[Phases] = SHORT
    foreground_prior: ClassVar = 0.02
    wide_lr_factor: ClassVar = 0.1


def _with_length(epochs: int) -> type[nnUNetTrainerS2CA]:
    unit = "epoch" if epochs == 1 else "epochs"
    return type(
        f"nnUNetTrainerS2CA_{epochs}{unit}",
        (nnUNetTrainerS2CA,),
        {
            "__module__": __name__,
            "__doc__": f"nnUNetTrainerS2CA for {epochs} {unit}.",
            "length_in_epochs": epochs,
        },
    )


# nnU-Net's lengths for its own trainer, under the same names
for _epochs in (1, 5, 10, 20, 50, 100, 250, 500, 750, 2000, 4000, 8000):
    _trainer = _with_length(_epochs)
    globals()[_trainer.__name__] = _trainer
del _trainer
