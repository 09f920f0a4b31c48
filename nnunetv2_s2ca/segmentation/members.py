"""How far the folds and mirrorings of one prediction agree, from running sums."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

POSITIVE = 0.5  # probability from which a voxel belongs to a region, as in nnU-Net


class MemberStatistics:
    """Mean and spread of the members' probabilities, by Welford's method, and their masks.

    Args:
        to_regions: From logits `(C, …)` to probabilities of the regions `(R, …)`, float32.
    """

    def __init__(self, to_regions: Callable[[Tensor], Tensor]) -> None:
        self.to_regions = to_regions
        self.count = 0
        self._mean = self._squares = torch.empty(0)
        self._masks: list[np.ndarray] = []  # a bit a voxel

    def add(self, logits: Tensor) -> None:
        """Take one member's logits, `(C, …)`, on the network's grid."""
        probabilities = self.to_regions(logits)
        self.count += 1
        if self.count == 1:
            self._mean = probabilities.clone()
            self._squares = torch.zeros_like(probabilities)
        else:
            above = probabilities - self._mean
            self._mean += above / self.count
            self._squares += above.mul_(probabilities - self._mean)
        self._masks.append(_bits(probabilities))

    def deviation(self) -> np.ndarray:
        """Standard deviation of the members' probabilities, `(R, …)`, float32."""
        return (self._squares / self.count).sqrt().cpu().numpy()

    def disagreement(self, logits: Tensor) -> list[float]:
        """For each region, 1 minus the mean Dice of the members with their ensemble.

        Two empty masks have a Dice of 1.

        Args:
            logits: The ensemble's, `(C, …)`.
        """
        ensemble = _bits(self.to_regions(logits))
        shares = [
            [_dice(*pair) for pair in zip(mask, ensemble, strict=True)] for mask in self._masks
        ]
        return [1 - float(np.mean(region)) for region in zip(*shares, strict=True)]


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Mean over the regions of the binary entropy in bits.

    Args:
        probabilities: `(R, …)`.

    Returns:
        `(…)`, from 0 to 1.
    """
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    bits[(probabilities <= 0) | (probabilities >= 1)] = 0
    return bits.mean(0)


def _bits(probabilities: Tensor) -> np.ndarray:
    """Masks of the regions, `(R, bytes)`."""
    masks = (probabilities > POSITIVE).cpu().numpy()
    return np.packbits(masks.reshape(len(masks), -1), axis=1)


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    sizes = _ones(one) + _ones(other)
    return 2 * _ones(one & other) / sizes if sizes else 1.0


def _ones(bits: np.ndarray) -> int:
    return int(np.unpackbits(bits).sum(dtype=np.int64))
