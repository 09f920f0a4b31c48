"""nnU-Net's planner with S2CA-Net's levels, patch and memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
    ExperimentPlanner,
)
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunetv2_s2ca.architecture.s2ca_net import S2CANet
from nnunetv2_s2ca.architecture.sizes import NUM_STAGES
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.planning.fitting import fit_to_memory
from nnunetv2_s2ca.planning.memory import DEFAULT_TARGET_GB, Step, needed_gb
from nnunetv2_s2ca.planning.patch_size import largest_patch, strides_for
from nnunetv2_s2ca.training.network_from_plans import PLANS_KEY


class S2CAPlanner(ExperimentPlanner):
    """Plans for S2CA-Net: four levels, and 128³ in batches of two where images and memory allow it.

    Spacing, normalisation, resampling, and whether there are `3d_lowres` and a cascade are
    nnU-Net's decisions. There is no 2D configuration. Memory is that of `nnUNetTrainerS2CA`.

    Args:
        dataset_name_or_id: nnU-Net's.
        gpu_memory_target_in_gb: memory of the card. With less of it, parts of the network are
            computed twice, then patches become smaller; with more, batches become larger.
        preprocessor_name: nnU-Net's.
        plans_name: name of the file, for `nnUNetv2_train -p`.
        overwrite_target_spacing: nnU-Net's.
        suppress_transpose: nnU-Net's.
    """

    def __init__(
        self,
        dataset_name_or_id: str | int,
        gpu_memory_target_in_gb: float = DEFAULT_TARGET_GB,
        preprocessor_name: str = "DefaultPreprocessor",
        plans_name: str = "S2CAPlans",
        overwrite_target_spacing: Sequence[float] | None = None,
        suppress_transpose: bool = False,
    ):
        super().__init__(
            dataset_name_or_id,
            gpu_memory_target_in_gb,
            preprocessor_name,
            plans_name,
            overwrite_target_spacing,
            suppress_transpose,
        )

    @staticmethod
    def static_estimate_VRAM_usage(*_: Any) -> float:  # noqa: N802 (nnU-Net's name)
        """Next to nothing, so that nnU-Net's search for a patch of its U-Net ends at once."""
        return 1

    def get_plans_for_configuration(
        self,
        spacing: np.ndarray | Sequence[float],
        median_shape: np.ndarray | Sequence[int],
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict,
    ) -> dict:
        """nnU-Net's plan, with patch, batch and strides of S2CA-Net.

        Raises:
            UserError: the memory does not suffice for the smallest patch.
        """
        if len(spacing) != 3:
            return {"not planned": "S2CA-Net is a 3D network"}
        plan = super().get_plans_for_configuration(
            spacing, median_shape, data_identifier, approximate_n_voxels_dataset, _cache
        )
        step = self._fitting_step(list(spacing), list(median_shape))
        most = approximate_n_voxels_dataset * self.max_dataset_covered / np.prod(step.patch_size)
        larger = step.larger_batch()
        while not step.checkpointing and step.batch_size < round(most) and self._fits(larger):
            step, larger = larger, larger.larger_batch()
        return {
            **plan,
            **({PLANS_KEY: {"checkpointing": True}} if step.checkpointing else {}),
            "patch_size": step.patch_size,
            "batch_size": step.batch_size,
            "architecture": {
                "network_class_name": f"{S2CANet.__module__}.{S2CANet.__name__}",
                "arch_kwargs": {"n_stages": NUM_STAGES, "strides": step.strides},
                "_kw_requires_import": [],
            },
        }

    def save_plans(self, plans: dict) -> None:
        """Save as nnU-Net does, without the 2D configuration.

        Raises:
            UserError: nothing is left, since the images are 2D.
        """
        del plans["configurations"]["2d"]
        if not plans["configurations"]:
            raise UserError(
                f"the images of {self.dataset_name} are 2D, and S2CA-Net is a 3D network; plan "
                "with another planner, and train another network"
            )
        super().save_plans(plans)

    def _fitting_step(self, spacing: Sequence[float], shape: Sequence[float]) -> Step:
        """The largest patch that fits, in batches of nnU-Net's least size."""
        labels = LabelManager(
            self.dataset_json["labels"], self.dataset_json.get("regions_class_order")
        )
        names = "channel_names" if "channel_names" in self.dataset_json else "modality"
        strides = strides_for(spacing)
        step = fit_to_memory(
            Step(
                patch_size=largest_patch(shape, strides),
                strides=strides,
                batch_size=self.UNet_min_batch_size,
                input_channels=len(self.dataset_json[names]),
                num_classes=labels.num_segmentation_heads,
            ),
            self.UNet_vram_target_GB,
        )
        if not self._fits(step):
            raise UserError(
                f"-gpu_memory_target {self.UNet_vram_target_GB:g} is too little: S2CA-Net needs "
                f"{needed_gb(step):.1f} GB for the smallest patch, {step.patch_size}"
            )
        return step

    def _fits(self, step: Step) -> bool:
        return needed_gb(step) <= self.UNet_vram_target_GB
