"""Build S2CA-Net from nnU-Net's plans."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunetv2_s2ca.architecture.s2ca_net import S2CANet
from nnunetv2_s2ca.architecture.sizes import NUM_STAGES

# Keyword arguments of S2CANet in a configuration of the plans, which override the trainer's. Models
# with imported weights define their network this way.
PLANS_KEY = "s2ca_net"
# arguments that dataset, plans and nnU-Net determine
DETERMINED = {"input_channels", "num_classes", "patch_size", "strides", "deep_supervision"}


def build_network(
    plans_manager: PlansManager,
    configuration_manager: ConfigurationManager,
    input_channels: int,
    num_classes: int,
    *,
    deep_supervision: bool,
    arguments: Mapping[str, Any],
) -> S2CANet:
    """Build S2CA-Net for a configuration's patch size and first strides.

    Args:
        plans_manager: The plans, which errors search for configurations that would work.
        configuration_manager: The configuration to build for.
        input_channels: Channels of the input.
        num_classes: Channels of the output.
        deep_supervision: As in `S2CANet`.
        arguments: The trainer's keyword arguments of `S2CANet`.

    Raises:
        ValueError: S2CA-Net cannot be built for this configuration, or plans and trainer define
            different networks.
    """
    reason = _why_not(configuration_manager)
    if reason is not None:
        raise ValueError(f"{reason} {_what_works(plans_manager)}")
    of_the_plan = configuration_manager.configuration.get(PLANS_KEY, {})
    _check_plans_arguments(of_the_plan, arguments, plans_manager.plans_name)
    return S2CANet(
        input_channels,
        num_classes,
        patch_size=configuration_manager.patch_size,
        strides=network_strides(configuration_manager),
        deep_supervision=deep_supervision,
        **{**arguments, **of_the_plan},
    )


def _check_plans_arguments(
    of_the_plan: Mapping[str, Any], of_the_trainer: Mapping[str, Any], plans_name: str
) -> None:
    allowed = inspect.signature(S2CANet).parameters.keys() - DETERMINED
    if strange := of_the_plan.keys() - allowed:
        raise ValueError(
            f"{PLANS_KEY} in {plans_name} holds {', '.join(sorted(strange))}; it may hold "
            f"{', '.join(sorted(allowed))}"
        )
    for name in of_the_plan.keys() & of_the_trainer.keys():
        # JSON turns tuples into lists
        planned, trained = (json.dumps(side[name]) for side in (of_the_plan, of_the_trainer))
        if planned != trained:
            raise ValueError(
                f"{plans_name} defines the network's {name} as {planned}, but this trainer as "
                f"{trained}; use nnUNetTrainerS2CA, or the same for a number of epochs"
            )


def network_strides(configuration_manager: ConfigurationManager) -> list[list[int]]:
    """The strides of S2CA-Net's four levels: the first four in the plans."""
    return [list(stride) for stride in configuration_manager.pool_op_kernel_sizes[:NUM_STAGES]]


def _why_not(configuration_manager: ConfigurationManager) -> str | None:
    """Why S2CA-Net cannot be built for a configuration; None if it can."""
    patch_size = configuration_manager.patch_size
    if len(patch_size) != 3:
        return f"S2CA-Net is a 3D network, but this configuration plans 2D patches of {patch_size}."
    strides = network_strides(configuration_manager)
    if len(strides) < NUM_STAGES:
        return (
            f"S2CA-Net has {NUM_STAGES} levels, but this configuration plans {len(strides)} for "
            f"patches of {patch_size}; its images are too small."
        )
    totals = [math.prod(stride[axis] for stride in strides) for axis in range(3)]
    for axis, (size, total) in enumerate(zip(patch_size, totals, strict=True)):
        if size % total:
            return (
                f"The patch size {patch_size} is not divisible by the strides of S2CA-Net: axis "
                f"{axis} has {size} voxels, which must be a multiple of {total}."
            )
    if list(patch_size) == totals:
        return (
            f"The patch size {patch_size} leaves a single voxel at S2CA-Net's coarsest level, on "
            f"which instance norm is undefined; use a larger patch."
        )
    return None


def _what_works(plans_manager: PlansManager) -> str:
    names = [
        name
        for name in plans_manager.available_configurations
        if _why_not(plans_manager.get_configuration(name)) is None
    ]
    if not names:
        return "No configuration of this plan works."
    return f"Of this plan, these configurations work: {', '.join(names)}."
