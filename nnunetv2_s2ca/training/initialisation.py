"""What the weights start from in short runs."""

from __future__ import annotations

import math

import torch
from torch import nn


def start_from_prior(network: nn.Module, prior: float, *, regions: bool) -> None:
    r"""Set the biases of all heads so that an untrained network predicts a prior.

    .. math:: b = \log \frac{\pi}{1 - \pi}

    Lin et al., *Focal Loss for Dense Object Detection*, ICCV 2017, eq. 10. Heads that start at a
    probability of one half first have to learn that nearly all voxels are background, and in short
    runs a region can stay empty meanwhile; `results/accuracy` compares.

    Args:
        network: With heads `decoder.seg_layers`, as nnU-Net's own networks have them.
        prior: Probability of each class of foreground, between 0 and 1.
        regions: Whether each channel is a region with its own sigmoid. If not, the first channel is
            background, whose bias becomes 0, and the prior is that of a class beside background.
    """
    if not 0 < prior < 1:
        raise ValueError(f"the prior {prior} is not between 0 and 1")
    with torch.no_grad():
        for head in network.get_submodule("decoder.seg_layers").children():
            bias = head.get_parameter("bias")
            bias.fill_(math.log(prior / (1 - prior)))
            if not regions:
                bias[0] = 0
