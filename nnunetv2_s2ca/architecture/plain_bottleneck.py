"""The bottleneck of the ablations without MCA."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nnunetv2_s2ca.architecture.residual_block import ResidualBlock


class PlainBottleneck(nn.Sequential):
    """Four residual blocks on the coarsest level."""

    def __init__(self, channels: int):
        super().__init__(*(ResidualBlock(channels, channels) for _ in range(4)))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        return super().forward(levels[-1])
