"""The decoder: four levels from coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from nnunetv2_s2ca.architecture.attention import AttentionGate
from nnunetv2_s2ca.architecture.global_branch import GlobalBranch
from nnunetv2_s2ca.architecture.lgsm import LGSM
from nnunetv2_s2ca.architecture.merging import merge
from nnunetv2_s2ca.architecture.pointwise import PointwiseConv3d
from nnunetv2_s2ca.architecture.residual_block import ResidualBlock
from nnunetv2_s2ca.architecture.sizes import NUM_STAGES, Run, Strides


class Decoder(nn.Module):
    """Four levels from coarse to fine, with gated skip connections and a head at each."""

    def __init__(
        self,
        num_classes: int,
        *,
        features_per_stage: Sequence[int],
        strides: Strides,
        branches: dict[int, dict[str, Any]],
        deep_supervision: bool,
    ):
        super().__init__()
        bottom = NUM_STAGES - 1
        f = features_per_stage
        # what enters each level's block: at the bottom the bottleneck, else skip and level below
        inputs = [*(f[i] + f[i + 1] for i in range(bottom)), f[bottom]]
        self.stages = nn.ModuleList(
            ResidualBlock(f_in, f_out) for f_in, f_out in zip(inputs, f, strict=True)
        )
        self.gates = nn.ModuleList(
            AttentionGate(f[i + 1], f[i], stride=strides[i + 1]) for i in range(bottom)
        )
        self.branches = nn.ModuleDict(
            {
                str(level): GlobalBranch(inputs[level], f[level], **arguments)
                for level, arguments in branches.items()
            }
        )
        # named as in nnU-Net's decoders, whose loader of pretrained weights leaves heads out
        self.seg_layers = nn.ModuleList(PointwiseConv3d(channels, num_classes) for channels in f)
        self.deep_supervision = deep_supervision

    def forward(self, bottom: Tensor, skips: list[Tensor], run: Run) -> Tensor | list[Tensor]:
        """Use up the skip connections, from coarse to fine, so that none outlives its use."""
        x = run(self._stage, bottom, NUM_STAGES - 1)
        levels = [x]
        for level in reversed(range(NUM_STAGES - 1)):
            skip = skips.pop()
            # outside `run`, for its batch norms
            relevance = self.gates[level](x, skip)
            x = run(self._merged_stage, skip, relevance, x, level)
            levels.insert(0, x)
        if not self.deep_supervision:
            return self.seg_layers[0](x)
        return [head(y) for head, y in zip(self.seg_layers, levels, strict=True)]

    def _merged_stage(self, skip: Tensor, relevance: Tensor, x: Tensor, level: int) -> Tensor:
        if str(level) in self.branches:
            return self._stage(merge(skip, relevance, x), level)
        return self.stages[level].forward_merged(skip, relevance, x)

    def _stage(self, x: Tensor, level: int) -> Tensor:
        if str(level) not in self.branches:
            return self.stages[level](x)
        return LGSM(self.stages[level], self.branches[str(level)]).decode(x)
