"""An exponential moving average over a network's weights."""

from __future__ import annotations

import torch
from torch import nn


class WeightAverage:
    """Keeps the average, and exchanges it with the weights themselves.

    Args:
        network: whose weights are averaged.
        decay: of the average; less in the first steps, which it would remember too long.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.network, self.decay, self.updates = network, decay, 0
        self.average = {name: value.clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the present weights in."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    @torch.no_grad()
    def exchange(self) -> None:
        """Put the average into the network and keep its weights, or the other way round."""
        for name, value in self.network.state_dict().items():
            kept = value.clone()
            value.copy_(self.average[name])
            self.average[name] = kept
