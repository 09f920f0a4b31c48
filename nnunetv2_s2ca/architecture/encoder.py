"""The encoder: four levels from fine to coarse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from nnunetv2_s2ca.architecture.global_branch import GlobalBranch
from nnunetv2_s2ca.architecture.lgsm import LGSM
from nnunetv2_s2ca.architecture.residual_block import ResidualBlock
from nnunetv2_s2ca.architecture.sizes import NUM_STAGES, Run, Strides


class Encoder(nn.Module):
    """Four levels of residual blocks; the lower two add a global branch on the stem feature."""

    def __init__(
        self,
        input_channels: int,
        *,
        features_per_stage: Sequence[int],
        strides: Strides,
        branches: dict[int, dict[str, Any]],
    ):
        super().__init__()
        inputs = (input_channels, *features_per_stage[:-1])
        self.stages = nn.ModuleList(
            ResidualBlock(f_in, f, stride=stride)
            for f_in, f, stride in zip(inputs, features_per_stage, strides, strict=True)
        )
        self.branches = nn.ModuleDict(
            {
                str(level): GlobalBranch(
                    features_per_stage[level], features_per_stage[level], **arguments
                )
                for level, arguments in branches.items()
            }
        )

    def forward(self, x: Tensor, run: Run) -> list[Tensor]:
        levels = []
        for level in range(NUM_STAGES):
            x = run(self._stage, x, level)
            levels.append(x)
        return levels

    def _stage(self, x: Tensor, level: int) -> Tensor:
        if str(level) not in self.branches:
            return self.stages[level](x)
        return LGSM(self.stages[level], self.branches[str(level)]).encode(x)
