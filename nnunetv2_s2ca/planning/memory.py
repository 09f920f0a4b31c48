"""Memory of a training step of S2CA-Net on a card, as a formula.

The bytes that live at one time were counted on tensors without values, with PyTorch's operations
for CUDA, by `benchmarks/card_memory.py`; the formula is fitted to them. No card was there: what
cuDNN, the allocator and the driver take is an allowance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType

import torch

from nnunetv2_s2ca.architecture.s2ca_net import S2CANet
from nnunetv2_s2ca.architecture.sizes import Strides, map_sizes

# What the driver, cuDNN's workspaces and the allocator's gaps may take: a guess, not measured.
ALLOWANCE = 1.0e9
# Just enough for the paper's patch of 128³ in batches of two.
DEFAULT_TARGET_GB = 10.0
# What a weight takes: fp32, its copy in fp16 under autocast, two moments of Adam.
BYTES_A_WEIGHT = 4 + 2 + 8
# Bytes a unit of each of `kept_terms`, fitted.
TERMS: Mapping[str, float] = MappingProxyType(
    {"features": 53.3, "patch": 10.5, "samples": 61.0, "planes": 42.0, "bottom": 118_500.0}
)

# With checkpointing the peak moves from part to part, so that a sum fits it less well: nowhere
# below a traced step, and up to 7 % above.
CHECKPOINTING_TERMS: Mapping[str, float] = MappingProxyType(
    {"patch": 4.9, "samples": 163.0, "bottom": 2_300.0}
)


@dataclass(frozen=True)
class Step:
    """What decides how much memory a training step takes.

    Attributes:
        patch_size: (H, W, D) in voxels.
        strides: of the four levels.
        batch_size: patches.
        features: channels of the four levels.
        input_channels: images of a case.
        num_classes: channels of the output.
        checkpointing: whether the network computes parts of itself twice, to keep less.
    """

    patch_size: Sequence[int]
    strides: Strides
    batch_size: int
    features: Sequence[int] = (16, 32, 64, 128)
    input_channels: int = 4
    num_classes: int = 3
    checkpointing: bool = False

    def larger_batch(self) -> Step:
        """The same with one patch more."""
        return replace(self, batch_size=self.batch_size + 1)


# BraTS at the paper's patch, in nnU-Net's least batch
PAPER = Step(
    patch_size=(128, 128, 128),
    strides=((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
    batch_size=2,
)


def kept_terms(step: Step) -> dict[str, float]:
    """The sizes to which what is kept for the backward pass is proportional, for the whole batch.

    features: voxels times channels, summed over the levels. patch: voxels of the patch times
    channels of input and output. samples: voxels of the second level, each with the taps of the
    deformable convolution. planes: pixels of the global branches' planes times width times blocks.
    bottom: voxels of the last level, each in three planes of the MCA.
    """
    sizes = map_sizes(step.patch_size, step.strides)
    voxels = [math.prod(size) for size in sizes]
    planes = [sum(n // length for length in size) for n, size in zip(voxels, sizes, strict=True)]
    terms = {
        "features": sum(n * f for n, f in zip(voxels, step.features, strict=True)),
        "patch": voxels[0] * (step.input_channels + step.num_classes),
        "samples": voxels[1] * step.features[1],
        # (width, blocks) of encoder and decoder, levels 2 and 3
        "planes": planes[2] * 256 * (6 + 4) + planes[3] * 512 * (2 + 2),
        "bottom": voxels[3],
    }
    return {name: float(value * step.batch_size) for name, value in terms.items()}


def fixed_bytes(step: Step) -> float:
    """What weights and optimiser take."""
    return BYTES_A_WEIGHT * _count_weights(
        tuple(step.patch_size),
        tuple(map(tuple, step.strides)),
        tuple(step.features),
        step.input_channels,
        step.num_classes,
    )


def step_bytes(step: Step) -> float:
    """The most bytes of tensors that live at one time in a training step under fp16 autocast."""
    kept = kept_terms(step)
    terms = CHECKPOINTING_TERMS if step.checkpointing else TERMS
    return fixed_bytes(step) + sum(terms[name] * kept[name] for name in terms)


def needed_gb(step: Step) -> float:
    """GB of a card that a training step needs: its tensors, and an allowance for the rest."""
    return (step_bytes(step) + ALLOWANCE) / 1e9


@cache
def _count_weights(
    patch_size: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    features: tuple[int, ...],
    input_channels: int,
    num_classes: int,
) -> int:
    with torch.device("meta"):
        network = S2CANet(
            input_channels,
            num_classes,
            patch_size=patch_size,
            strides=strides,
            features_per_stage=features,
        )
    return sum(weight.numel() for weight in network.parameters())
