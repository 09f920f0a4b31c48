"""nnU-Net's trainer with S2CA-Net in place of the U-Net, and the paper's recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunetv2_s2ca.training.initialisation import start_from_prior
from nnunetv2_s2ca.training.lr_schedule import PAPER, Phases, WarmupPlateauCosineLR
from nnunetv2_s2ca.training.network_from_plans import build_network, network_strides
from nnunetv2_s2ca.training.parameter_groups import wide_layers_apart
from nnunetv2_s2ca.training.pretrained import unwrapped, use_lenient_loader


class S2CANetTrainer(nnUNetTrainer):
    """nnU-Net's trainer with S2CA-Net and the paper's weights of deep supervision.

    Everything else is nnU-Net's: planning, augmentation, sampling, loss, optimiser, 1000 epochs of
    250 iterations, sliding window.
    """

    # For subclasses: further keyword arguments of S2CANet, and the weights of the outputs from fine
    # to coarse (nnU-Net's if None)
    network_arguments: ClassVar[Mapping[str, Any]] = {}
    deep_supervision_weights: ClassVar[tuple[float, ...] | None] = (0.8, 0.6, 0.3, 0.2)
    # probability of each class of foreground that the heads start from (one half if None)
    foreground_prior: ClassVar[float | None] = None

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build S2CA-Net for the plan; nnU-Net calls this in training and in inference.

        Raises:
            ValueError: S2CA-Net cannot be built for this configuration; names those that work.
        """
        return build_network(
            plans_manager,
            configuration_manager,
            num_input_channels,
            num_output_channels,
            deep_supervision=enable_deep_supervision,
            arguments=cls.network_arguments,
        )

    def initialize(self) -> None:
        """Build the network, its optimiser and its loss."""
        super().initialize()
        use_lenient_loader(self.print_to_log_file)
        if self.foreground_prior is not None:
            start_from_prior(
                unwrapped(self.network),
                self.foreground_prior,
                regions=self.label_manager.has_regions,
            )

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        if not self.enable_deep_supervision:
            return None
        total = np.cumprod(network_strides(self.configuration_manager), axis=0)
        return (1 / total).tolist()

    def _build_loss(self) -> nn.Module:
        loss = super()._build_loss()
        if not self.enable_deep_supervision or self.deep_supervision_weights is None:
            return loss
        weights = np.array(self.deep_supervision_weights)
        return DeepSupervisionWrapper(loss.loss, weights / weights.sum())

    def save_checkpoint(self, filename: str) -> None:
        """Save as nnU-Net does, but replace a checkpoint only by a complete one."""
        if self.disable_checkpointing or self.local_rank != 0:
            super().save_checkpoint(filename)  # writes nothing
            return
        unfinished = Path(f"{filename}.unfinished")
        try:
            super().save_checkpoint(str(unfinished))
            unfinished.replace(filename)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


class nnUNetTrainerS2CA(S2CANetTrainer):
    """S2CA-Net with the recipe of Zhou et al., IEEE TMI 2024.

    Adam, learning rate 1e-3 with warm-up, plateau and cosine, L2 weight decay 1e-5.
    """

    # nnU-Net's if None; iterations of training and validation
    length_in_epochs: ClassVar[int | None] = None
    iterations_per_epoch: ClassVar[tuple[int, int] | None] = None
    max_lr: ClassVar[float] = 1e-3
    phases: ClassVar[Phases] = PAPER
    # learning rate of the 2D layers of LGSM and MCA in relation to that of the others
    wide_lr_factor: ClassVar[float] = 1.0

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 (nnU-Net's own default)
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.length_in_epochs is not None:
            self.num_epochs = self.length_in_epochs
        if self.iterations_per_epoch is not None:
            self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = (
                self.iterations_per_epoch
            )
        self.initial_lr = self.max_lr
        self.weight_decay = 1e-5
        self.iteration = 0

    def configure_optimizers(self):
        """Adam, with a schedule of warm-up, plateau and cosine per iteration."""
        network, lr = unwrapped(self.network), self.initial_lr
        optimizer = torch.optim.Adam(
            network.parameters()
            if self.wide_lr_factor == 1
            else wide_layers_apart(network, lr, factor=self.wide_lr_factor),
            lr,
            weight_decay=self.weight_decay,
            # on a CPU, PyTorch's default takes four times as long for the same result
            fused=True if self.device.type == "cpu" else None,
        )
        return optimizer, WarmupPlateauCosineLR(optimizer, self.num_epochs, phases=self.phases)

    def on_train_epoch_start(self) -> None:
        """Set the learning rate to the epoch's first, and log it."""
        super().on_train_epoch_start()
        self.iteration = 0

    def train_step(self, batch: dict) -> dict:
        """Step as nnU-Net does, with this iteration's learning rate."""
        self.lr_scheduler.step(self.current_epoch + self.iteration / self.num_iterations_per_epoch)
        self.iteration += 1
        return super().train_step(batch)
