"""Reorder channels from the authors' convention to nnU-Net's."""

from __future__ import annotations

import torch
from torch import Tensor

from nnunetv2_s2ca.checkpoints.network import TranslatedCheckpoint
from nnunetv2_s2ca.core.errors import UserError

AUTHORS_INPUTS = ("t1", "t2", "t1ce", "flair")
INPUTS = ("t1", "t1ce", "t2", "flair")
AUTHORS_OUTPUTS = ("background", "ET", "TC", "WT")
OUTPUTS = ("WT", "TC", "ET")

# weights of the first residual block that see the input channels → their axis
INPUT_AXES = {
    "encoder.stages.0.unit1.depthwise.weight": 0,
    "encoder.stages.0.unit1.pointwise.weight": 1,
    "encoder.stages.0.shortcut.0.weight": 1,
}
HEADS = "decoder.seg_layers."


def to_nnunet_channels(checkpoint: TranslatedCheckpoint) -> dict[str, Tensor]:
    """The weights for inputs T1, T1ce, T2, FLAIR and outputs WT, TC, ET.

    The authors' network takes t1, t2, t1ce, flair and returns background, ET, TC, WT, each through
    its own sigmoid, so the background can be dropped.

    Raises:
        UserError: The network's inputs or outputs differ from the authors'.
    """
    architecture = checkpoint.architecture
    found = (architecture.input_channels, architecture.num_classes)
    if found != (len(AUTHORS_INPUTS), len(AUTHORS_OUTPUTS)):
        raise UserError(
            f"{checkpoint.path} has {found[0]} input and {found[1]} output channels; only networks "
            f"for {', '.join(AUTHORS_INPUTS)} and {', '.join(AUTHORS_OUTPUTS)} can be imported"
        )
    inputs = torch.tensor([AUTHORS_INPUTS.index(name) for name in INPUTS])
    outputs = torch.tensor([AUTHORS_OUTPUTS.index(name) for name in OUTPUTS])
    weights = dict(checkpoint.weights)
    for name, axis in INPUT_AXES.items():
        weights[name] = weights[name].index_select(axis, inputs)
    for name in weights:
        if name.startswith(HEADS):
            weights[name] = weights[name].index_select(0, outputs)
    return weights
