"""Parameters of the network by the learning rate that suits them."""

from __future__ import annotations

from typing import Any

from torch import nn

from nnunetv2_s2ca.architecture.global_branch import GlobalBranch
from nnunetv2_s2ca.architecture.shifted_mlp import ShiftedMLP


def wide_layers_apart(network: nn.Module, lr: float, *, factor: float) -> list[dict[str, Any]]:
    """Two parameter groups for an optimiser: the 2D layers of LGSM and MCA, and the others.

    Adam moves each weight by about the learning rate, whatever the layer's width, so that the
    output of a layer moves in proportion to the number of its inputs; Yang et al., *Tensor Programs
    V*, 2021, divide the rate by it. The 2D layers have up to 6,144 inputs, most 3D layers fewer
    than 500.

    Args:
        network: An S2CA-Net.
        lr: Learning rate of the 3D layers.
        factor: That of the 2D layers in relation to it.
    """
    modules = [m for m in network.modules() if isinstance(m, GlobalBranch | ShiftedMLP)]
    wide = {id(p) for module in modules for p in module.parameters()}
    narrow = [p for p in network.parameters() if id(p) not in wide]
    return [
        {"params": narrow, "lr": lr},
        {"params": [p for p in network.parameters() if id(p) in wide], "lr": lr * factor},
    ]
