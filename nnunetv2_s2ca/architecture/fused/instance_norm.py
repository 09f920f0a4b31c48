"""Instance norm of one sample that is seen slab by slab, (rows, W, D, C) each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nnunetv2_s2ca.architecture.fused.elementwise import affine, channel_sum

EPS = 1e-5  # as torch.nn.InstanceNorm3d


class InstanceNorm(NamedTuple):
    """An instance norm of known statistics, (C,) each, in fp32 at least."""

    mean: Tensor
    rstd: Tensor

    def __call__(self, y: Tensor) -> Tensor:
        return affine(y.to(self.mean.dtype), self.rstd, -self.mean * self.rstd)


class Moments:
    """Mean and variance of each channel."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, Tensor, Tensor]] = []

    def add(self, y: Tensor) -> None:
        """Count a slab in."""
        y = y.to(torch.promote_types(y.dtype, torch.float32))
        mean = channel_sum(y) / y[..., 0].numel()
        centred = affine(y, torch.ones_like(mean), -mean)
        self.parts.append((y[..., 0].numel(), mean, channel_sum(centred.square_())))

    def norm(self) -> InstanceNorm:
        """The norm of all slabs together.

        Chan, Golub, LeVeque, *Updating Formulae and a Pairwise Algorithm for Computing Sample
        Variances*, 1979: squares are only ever taken of differences from a mean.
        """
        counts, means, squares = zip(*self.parts, strict=True)
        total = sum(counts)
        shares = torch.tensor(counts, dtype=means[0].dtype)[:, None] / total
        mean = (shares * torch.stack(means)).sum(0)
        variance = sum(squares) / total + (shares * (torch.stack(means) - mean).square()).sum(0)
        return InstanceNorm(mean, torch.rsqrt(variance + EPS))


class InstanceNormBackward:
    """Gradient of an instance norm, which needs two sums over all slabs before the first result."""

    def __init__(self, norm: InstanceNorm):
        self.norm = norm
        self.count = 0
        self.sum: Tensor | float = 0.0
        self.product: Tensor | float = 0.0

    def add(self, grad: Tensor, y: Tensor) -> None:
        """Count a slab of the output's gradient and of the input in."""
        self.count += y[..., 0].numel()
        self.sum += channel_sum(grad)
        self.product += channel_sum(grad * self.norm(y))

    def rows(self, grad: Tensor, y: Tensor) -> Tensor:
        """Gradient of the input, for a slab of the output's gradient and of the input."""
        rstd = self.norm.rstd
        # rstd · (grad − mean(grad) − n · mean(grad · n)), n the normalised map
        centred = affine(self.norm(y), -self.product / self.count, -self.sum / self.count)
        return affine(centred.add_(grad), rstd, torch.zeros_like(rstd)).to(y.dtype)
