"""S2CA-Net, the whole network.

Zhou, Jiang, Li, Hu, Zheng, *Shape-Scale Co-Awareness Network for 3D Brain Tumor Segmentation*,
IEEE Transactions on Medical Imaging, 2024, doi 10.1109/TMI.2024.3368531. Where the paper is silent,
the authors' released program decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnunetv2_s2ca.architecture import fused
from nnunetv2_s2ca.architecture.decoder import Decoder
from nnunetv2_s2ca.architecture.encoder import Encoder
from nnunetv2_s2ca.architecture.mca import MultiScaleContextAggregation
from nnunetv2_s2ca.architecture.ms_adc import MultiScaleDeformConv
from nnunetv2_s2ca.architecture.plain_bottleneck import PlainBottleneck
from nnunetv2_s2ca.architecture.sizes import (
    NUM_STAGES,
    Branches,
    Strides,
    branch_arguments,
    check_sizes,
    map_sizes,
)


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
        check_sizes(patch_size, strides, features_per_stage)
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
        sizes = map_sizes(patch_size, strides)
        bottom = features[-1]
        self.encoder = Encoder(
            input_channels,
            features_per_stage=features,
            strides=strides,
            branches=branch_arguments(sizes, encoder_branches),
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
            branches=branch_arguments(sizes, decoder_branches),
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
        if fused.on_processor(x):  # whose convolutions are fastest in this layout
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
