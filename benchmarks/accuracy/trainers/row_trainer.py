"""The trainer of a row, as nnU-Net finds it by name: steps, seed, recipe, learning curve.

The environment variable `S2CA_ACCURACY_ROW` holds the row as JSON; `nnUNet_extTrainer` names this
folder.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from benchmarks.accuracy.network_options import apply_options
from benchmarks.accuracy.schedule import RecipeSchedule, make_optimizer
from benchmarks.accuracy.weight_average import WeightAverage
from nnunetv2_s2ca import training
from nnunetv2_s2ca.training.light_augmentation import LightAugmentation

ROW_VARIABLE = "S2CA_ACCURACY_ROW"
CURVE_FILE = "learning_curve.json"
POINTS = 6  # validations during a training, at the ends of nnU-Net's epochs
VALIDATION_BATCHES = 4


class RowTrainer(LightAugmentation):
    """What all rows share: length of the run, augmentation, seed and record.

    nnU-Net's fold is also the seed. The few epochs are the validations; the learning rate changes
    at each step, for all optimisers.
    """

    row: ClassVar[dict[str, Any]]

    def initialize(self) -> None:
        """Set length and seed, then build the network."""
        points = min(POINTS, self.row["steps"])
        self.num_epochs = points
        self.num_iterations_per_epoch = self.row["steps"] // points
        self.num_val_iterations_per_epoch = VALIDATION_BATCHES
        self.average: WeightAverage | None = None
        self.step_of_epoch = 0
        self.seconds = self.started = 0.0
        self.curve: dict[str, list] = {"losses": [], "validation": []}
        _seed(self.fold)
        super().initialize()

    @classmethod
    def build_network_architecture(
        cls, plans_manager: Any, *others: Any, **named: Any
    ) -> nn.Module:
        """Build the network as its trainer does, then apply the recipe's options.

        nnU-Net looks for a parameter of the name `plans_manager`.
        """
        network = super().build_network_architecture(plans_manager, *others, **named)
        return apply_options(network, cls.row["recipe"])

    def configure_optimizers(self):
        """The recipe's optimiser and rates, or the trainer's own."""
        recipe = self.row["recipe"]
        if recipe["optimiser"] is None:
            return super().configure_optimizers()
        optimizer = make_optimizer(self.network, recipe)
        if recipe["clip"] is not None:
            optimizer.register_step_pre_hook(self._clip)
        return optimizer, RecipeSchedule(optimizer, recipe, self.num_epochs)

    def _clip(self, *_: Any) -> None:
        """Clip in addition to nnU-Net's clipping, before the optimiser steps."""
        nn.utils.clip_grad_norm_(self.network.parameters(), self.row["recipe"]["clip"])

    def _build_loss(self) -> nn.Module:
        if self.row["recipe"]["output_weights"] == "nnunet":
            return nnUNetTrainer._build_loss(self)
        return super()._build_loss()

    @classmethod
    def intensity_transforms(cls) -> Sequence[BasicTransform]:
        """nnU-Net's noise and brightness, the same for all rows."""
        noise = GaussianNoiseTransform(
            noise_variance=(0, 0.1), p_per_channel=1, synchronize_channels=True
        )
        brightness = MultiplicativeBrightnessTransform(
            multiplier_range=(0.75, 1.25), synchronize_channels=False, p_per_channel=1
        )
        return (
            RandomTransform(noise, apply_probability=0.15),
            RandomTransform(brightness, apply_probability=0.3),
        )

    def on_train_epoch_start(self) -> None:
        """Start measuring processor time, which leaves out validation."""
        if self.row["recipe"]["ema"] is not None and self.average is None:
            self.average = WeightAverage(self.network, self.row["recipe"]["ema"])
        self.step_of_epoch = 0
        super().on_train_epoch_start()
        self.started = time.process_time()

    def train_step(self, batch: dict) -> dict:
        """Step with this step's learning rate."""
        self.lr_scheduler.step(
            self.current_epoch + self.step_of_epoch / self.num_iterations_per_epoch
        )
        self.step_of_epoch += 1
        result = super().train_step(batch)
        if self.average is not None:
            self.average.update()
        self.curve["losses"].append(round(float(result["loss"]), 4))
        return result

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """Stop measuring processor time."""
        self.seconds += time.process_time() - self.started
        super().on_train_epoch_end(train_outputs)

    def on_validation_epoch_start(self) -> None:
        """Validate the average, if there is one."""
        if self.average is not None:
            self.average.exchange()
        super().on_validation_epoch_start()

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """Add a point to the learning curve."""
        super().on_validation_epoch_end(val_outputs)
        if self.average is not None:
            self.average.exchange()
        dice = self.logger.get_value("dice_per_class_or_region", step=-1)
        self.curve["validation"].append(
            {
                "step": len(self.curve["losses"]),
                "seconds": round(self.seconds, 1),
                "dice": [round(float(value), 4) for value in dice],
            }
        )
        Path(self.output_folder, CURVE_FILE).write_text(json.dumps(self.curve), encoding="utf-8")

    def on_train_end(self) -> None:
        """Save the average, if there is one, as the final weights."""
        if self.average is not None:
            self.average.exchange()
        super().on_train_end()


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def __getattr__(name: str) -> type[RowTrainer]:
    row = json.loads(os.environ.get(ROW_VARIABLE, "{}"))
    if name != row.get("trainer"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    own = training.TRAINERS.get(row["recipe"]["trainer"], nnUNetTrainer)
    bases = (RowTrainer,) if own is nnUNetTrainer else (RowTrainer, own)
    return type(name, bases, {"__module__": __name__, "row": row})
