"""From the authors' order of channels to nnU-Net's: the first convolutions and the heads."""

from __future__ import annotations

import torch
from torch import Tensor

from nnunetv2_s2ca.checkpoints.network import TranslatedCheckpoint
from nnunetv2_s2ca.core.errors import UserError

AUTHORS_INPUTS = ("t1", "t2", "t1ce", "flair")
INPUTS = ("t1", "t1ce", "t2", "flair")
AUTHORS_OUTPUTS = ("background", "ET", "TC", "WT")
OUTPUTS = ("WT", "TC", "ET")

# what of the first residual block sees the input's channels, and on which axis of its weights
INPUT_AXES = {
    "encoder.stages.0.unit1.depthwise.weight": 0,
    "encoder.stages.0.unit1.pointwise.weight": 1,
    "encoder.stages.0.shortcut.0.weight": 1,
}
HEADS = "decoder.seg_layers."


def to_nnunet_channels(checkpoint: TranslatedCheckpoint) -> dict[str, Tensor]:
    """The weights for inputs T1, T1ce, T2, FLAIR and outputs WT, TC, ET.

    The authors' network takes t1, t2, t1ce, flair and gives background, ET, TC, WT, all through a
    sigmoid of their own, so that the background can be left out.

    Raises:
        UserError: if the network has other inputs or outputs than the authors'.
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
