"""S2CA-Net, the whole network.

Zhou, Jiang, Li, Hu, Zheng, *Shape-Scale Co-Awareness Network for 3D Brain Tumor Segmentation*,
IEEE Transactions on Medical Imaging, 2024, doi 10.1109/TMI.2024.3368531. Where the paper is silent,
the authors' released program decides.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnunetv2_s2ca.architecture.attention import AttentionGate
from nnunetv2_s2ca.architecture.blocks import PointwiseConv3d, ResidualBlock, merge
from nnunetv2_s2ca.architecture.lgsm import GlobalBranch
from nnunetv2_s2ca.architecture.mca import MultiScaleContextAggregation
from nnunetv2_s2ca.architecture.ms_adc import MultiScaleDeformConv

NUM_STAGES = 4
Strides = Sequence[Sequence[int]]
# Calls a part of the network: `run(part, *arguments)`.
Run = Callable[..., Any]
Branches = Sequence[tuple[int, int]]


class S2CANet(nn.Module):
    """S2CA-Net: residual blocks, global branches (LGSM), MCA bottleneck and MS-ADC skips.

    Args:
        input_channels: channels of the input.
        num_classes: channels of the output logits, K.
        patch_size: spatial size (H, W, D) of every input; weights depend on it.
        strides: strides into the four levels on H, W, D, the first all ones.
        features_per_stage: channels of the four levels.
        encoder_branches: (width, number of blocks) of the global branches' ConvFormers at the
            levels 2 and 3 of the encoder; none if empty.
        decoder_branches: the same for the decoder. The published program has two blocks less
            there at level 2; the released weights have (360, 6) at level 2 on both sides.
        context_aggregation: use the MCA; else four residual blocks make the bottleneck.
        deformable_skips: use the MS-ADC; else the skip connections are plain.
        swap_axes: reproduce the exchange of two axes in the MCA of the authors' program, for
            their weights; needs equal first two axes.
        deep_supervision: return the logits of all four levels; `decoder.deep_supervision`
            switches later.
        checkpointing: keep less for the backward pass and compute it again there, for cards with
            little memory.

    Raises:
        ValueError: for sizes that do not fit each other.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        patch_size: Sequence[int],
        strides: Strides = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
        features_per_stage: Sequence[int] = (16, 32, 64, 128),
        encoder_branches: Branches = ((256, 6), (512, 2)),
        decoder_branches: Branches = ((256, 4), (512, 2)),
        context_aggregation: bool = True,
        deformable_skips: bool = True,
        swap_axes: bool = False,
        deep_supervision: bool = True,
        checkpointing: bool = False,
    ):
        super().__init__()
        _check_sizes(patch_size, strides, features_per_stage)
        if min(input_channels, num_classes) < 1:
            raise ValueError(
                f"S2CA-Net needs an input channel and a class at least; got {input_channels} and "
                f"{num_classes}"
            )
        if max(len(encoder_branches), len(decoder_branches)) > NUM_STAGES:
            raise ValueError(
                f"a level has one global branch at most; got {len(encoder_branches)} in the "
                f"encoder and {len(decoder_branches)} in the decoder for {NUM_STAGES} levels"
            )
        if swap_axes and patch_size[0] != patch_size[1]:
            raise ValueError(
                f"swap_axes exchanges the first two axes, which must then have one length; "
                f"patch_size is {tuple(patch_size)}"
            )
        self.patch_size = tuple(patch_size)
        self.checkpointing = checkpointing
        features = tuple(features_per_stage)
        map_sizes = _map_sizes(patch_size, strides)
        bottom = features[-1]
        self.encoder = Encoder(
            input_channels,
            features_per_stage=features,
            strides=strides,
            branches=_branch_arguments(map_sizes, encoder_branches),
        )
        self.bottleneck: nn.Module = (
            MultiScaleContextAggregation(features, strides=strides, swap_axes=swap_axes)
            if context_aggregation
            else PlainBottleneck(bottom)
        )
        self.skips: nn.Module = (
            MultiScaleDeformConv(features[:-1], strides=strides[:-1])
            if deformable_skips
            else nn.Identity()
        )
        self.decoder = Decoder(
            num_classes,
            features_per_stage=features,
            strides=strides,
            branches=_branch_arguments(map_sizes, decoder_branches),
            deep_supervision=deep_supervision,
        )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(B, input_channels, *patch_size) → logits (B, K, *patch_size).

        Under deep supervision a list of logits from fine to coarse, one a level.

        Raises:
            ValueError: if the input has not five axes or its size is not the patch size.
        """
        if x.ndim != 5:
            raise ValueError(f"S2CA-Net takes (B, C, H, W, D); the input is {tuple(x.shape)}")
        if tuple(x.shape[2:]) != self.patch_size:
            raise ValueError(
                f"the input's size is {tuple(x.shape[2:])}, but this S2CA-Net was built for "
                f"patches of {self.patch_size}, to which some of its weights are tied"
            )
        # depthwise and pointwise convolutions are fastest in this layout
        x = x.contiguous(memory_format=torch.channels_last_3d)
        run = _run_and_forget if self.checkpointing and torch.is_grad_enabled() else _run
        levels = self.encoder(x, run)
        bottom, skips = run(self.bottleneck, levels), run(self.skips, levels[:-1])
        del levels  # at inference its memory serves the decoder
        return self.decoder(bottom, list(skips), run)


def _run(part: Callable[..., Any], *arguments: Any) -> Any:
    return part(*arguments)


def _run_and_forget(part: Callable[..., Any], *arguments: Any) -> Any:
    """Keep nothing but the arguments. Not for batch norms, which would count a batch twice."""
    return checkpoint(part, *arguments, use_reentrant=False)


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
        y, stem = self.stages[level].forward_with_stem(x)
        return y + self.branches[str(level)](stem)


class PlainBottleneck(nn.Sequential):
    """The bottleneck of the ablations without MCA: four residual blocks on the coarsest level."""

    def __init__(self, channels: int):
        super().__init__(*(ResidualBlock(channels, channels) for _ in range(4)))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        return super().forward(levels[-1])


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
        y = self.stages[level](x)
        if str(level) in self.branches:
            y = y + self.branches[str(level)](x)
        return y


def _check_sizes(
    patch_size: Sequence[int], strides: Strides, features_per_stage: Sequence[int]
) -> None:
    if len(patch_size) != 3:
        raise ValueError(f"S2CA-Net is a 3D network; patch_size {tuple(patch_size)} has not 3 axes")
    if len(strides) != NUM_STAGES or len(features_per_stage) != NUM_STAGES:
        raise ValueError(
            f"S2CA-Net has {NUM_STAGES} levels, so strides and features_per_stage need "
            f"{NUM_STAGES} entries each; got {len(strides)} and {len(features_per_stage)}"
        )
    if any(len(stride) != 3 for stride in strides) or any(s != 1 for s in strides[0]):
        raise ValueError(f"strides need 3 axes each, the first all ones; got {strides}")
    if min(*patch_size, *itertools.chain(*strides), *features_per_stage) < 1:
        raise ValueError(
            f"sizes are 1 at least; got patch_size {tuple(patch_size)}, strides {strides}, "
            f"features_per_stage {tuple(features_per_stage)}"
        )
    total = [math.prod(axis) for axis in zip(*strides, strict=True)]
    if any(size % stride for size, stride in zip(patch_size, total, strict=True)):
        raise ValueError(
            f"every axis of patch_size must be divisible by the product of its strides; got "
            f"patch_size {tuple(patch_size)} and products {tuple(total)}"
        )
    if math.prod(patch_size) == math.prod(total):
        raise ValueError(
            f"patch_size {tuple(patch_size)} leaves a single voxel at the coarsest level, on "
            f"which instance norm is undefined; use a larger patch"
        )


def _map_sizes(patch_size: Sequence[int], strides: Strides) -> list[tuple[int, ...]]:
    """The spatial size (H, W, D) of the feature maps at each level."""
    sizes = [tuple(patch_size)]
    for stride in strides[1:]:
        sizes.append(tuple(size // s for size, s in zip(sizes[-1], stride, strict=True)))
    return sizes


def _branch_arguments(
    map_sizes: Sequence[tuple[int, ...]], branches: Branches
) -> dict[int, dict[str, Any]]:
    """Level → keyword arguments of its global branch."""
    levels = range(NUM_STAGES - len(branches), NUM_STAGES)
    return {
        level: {"map_size": map_sizes[level], "embed_dim": embed_dim, "depth": depth}
        for level, (embed_dim, depth) in zip(levels, branches, strict=True)
    }
