"""An exponential moving average over a network's weights."""

from __future__ import annotations

import torch
from torch import nn


class WeightAverage:
    """Keeps the average, and swaps it with the weights.

    Args:
        network: The network whose weights are averaged.
        decay: Decay of the average; lower in the first steps, which would count for too long.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.network, self.decay, self.updates = network, decay, 0
        self.average = {name: value.clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Include the present weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    @torch.no_grad()
    def exchange(self) -> None:
        """Swap the average and the network's weights."""
        for name, value in self.network.state_dict().items():
            kept = value.clone()
            value.copy_(self.average[name])
            self.average[name] = kept
