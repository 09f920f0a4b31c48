"""What the residual block's forward and backward pass have in common."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from nnunetv2_s2ca.architecture.fused.block_input import InputMaps
from nnunetv2_s2ca.architecture.fused.conv_unit import UnitWeights
from nnunetv2_s2ca.architecture.fused.elementwise import pointwise_conv


class BlockWeights(NamedTuple):
    """Weights of a `ResidualBlock`: its units, its shortcut's convolution, its last slope.

    There is no shortcut where it is the identity.
    """

    unit1: UnitWeights
    unit2: UnitWeights
    shortcut: Tensor | None
    slope: Tensor


class BlockArguments(NamedTuple):
    """Arguments of the operation; the maps are a batch, (B, H, W, D, C)."""

    maps: InputMaps
    weights: BlockWeights


class BlockOptions(NamedTuple):
    """Stride of the first unit, whether to return the stem feature, and to keep maps."""

    stride_h: int
    stride_w: int
    stride_d: int
    with_stem: int
    keep: int

    @property
    def stride(self) -> tuple[int, int, int]:
        return self.stride_h, self.stride_w, self.stride_d

    @property
    def outputs(self) -> int:
        return 1 + self.with_stem


class Kept(NamedTuple):
    """What the backward pass needs.

    Maps before the norms, (B, H, W, D, O), and mean and rstd of two or three norms,
    (B, norms, 2, O).
    """

    y1: Tensor
    y2: Tensor
    statistics: Tensor


def projected(x_seen: Tensor, shortcut: Tensor | None) -> Tensor:
    """The shortcut before its norm: a strided pointwise convolution, or the input itself."""
    return x_seen if shortcut is None else pointwise_conv(x_seen, shortcut.to(x_seen.dtype))
