"""Memory of a training step on a CUDA device, counted on tensors that have no values.

    python -m benchmarks.card_memory

prints, for sizes of the network, patch and batch, the most bytes that live at one time in a step
under autocast in fp16, and fits the model of `nnunetv2_s2ca.planning.memory` to them. It counts
tensors: what cuDNN, the allocator and the driver take besides is not in it, and no card was
there. A build of PyTorch for CUDA is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from scipy.optimize import nnls
from torch import nn

from benchmarks.memory import LiveMemory
from benchmarks.tracing import backward, no_values, without_values
from nnunetv2_s2ca import S2CANet
from nnunetv2_s2ca.planning.memory import TERMS, Step, fixed_bytes, kept_terms, step_bytes

DEVICE = "cuda"
ISOTROPIC = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
SIZES = {"S": (8, 16, 32, 64), "base": (16, 32, 64, 128), "L": (32, 64, 128, 256)}


def traced_bytes(step: Step) -> int:
    """The most bytes that live at one time in a training step on a CUDA device, without a card.

    Forward pass and nnU-Net's loss of regions on all outputs under autocast in fp16, backward pass
    in the order of PyTorch's engine; weights, gradients and the two moments of Adam included.
    """
    with torch.device("meta"):
        network = S2CANet(
            step.input_channels,
            step.num_classes,
            patch_size=step.patch_size,
            strides=step.strides,
            features_per_stage=step.features,
            checkpointing=step.checkpointing,
        ).train()
    with no_values(), _checkpoints_without_a_card(), torch.device(DEVICE):
        without_values(network, DEVICE)
        patch = torch.empty(step.batch_size, step.input_channels, *step.patch_size)
        strides = np.cumprod(step.strides, axis=0)
        targets = [
            torch.empty(step.batch_size, step.num_classes, *np.array(step.patch_size) // stride)
            for stride in strides.tolist()
        ]
        loss = _loss(len(targets))
        weights = list(network.parameters())
        with LiveMemory([*weights, *network.buffers(), patch, *targets]) as live:
            with torch.autocast(DEVICE, dtype=torch.float16):
                values = [loss(network(patch), targets)]
            # taken out of the list, since it would keep the whole graph
            backward((values.pop() for _ in range(1)), [torch.ones(())])
        known = sum(y.untyped_storage().nbytes() for y in (*weights, patch, *targets))
    moments = 2 * sum(weight.numel() * weight.element_size() for weight in weights)
    return live.peak + known + moments


@contextmanager
def _checkpoints_without_a_card() -> Iterator[None]:
    """What `torch.utils.checkpoint` asks of the engine and of the card has an answer."""
    with (
        mock.patch("torch.utils.checkpoint.get_device_states", return_value=([], [])),
        # it computes a part again once in a backward pass, and tells passes apart by this
        mock.patch("torch._C._current_graph_task_id", return_value=0),
    ):
        yield


def _loss(levels: int) -> nn.Module:
    of_regions = DC_and_BCE_loss(
        {},
        {"batch_dice": False, "do_bg": True, "smooth": 1e-5, "ddp": False},
        dice_class=MemoryEfficientSoftDiceLoss,
    )
    return DeepSupervisionWrapper(of_regions, [1 / levels] * levels)


@dataclass(frozen=True)
class Sample:
    """A traced step, and its bytes."""

    step: Step
    traced: int


def samples(steps: Sequence[Step]) -> list[Sample]:
    """Trace steps."""
    return [Sample(step, traced_bytes(step)) for step in steps]


def fit(traced: Sequence[Sample]) -> dict[str, float]:
    """Bytes a unit of each term of the model, none below zero; relative errors are minimised."""
    rows = np.array([[kept_terms(sample.step)[term] for term in TERMS] for sample in traced])
    beyond = np.array([sample.traced - fixed_bytes(sample.step) for sample in traced], float)
    coefficients, _ = nnls(rows / beyond[:, None], np.ones(len(traced)))
    return dict(zip(TERMS, coefficients.tolist(), strict=True))


def steps() -> list[Step]:
    """What is traced: sizes of the network, cubes and others, batches."""
    anisotropic = ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2))
    shapes = [((size,) * 3, ISOTROPIC) for size in (32, 64, 96, 128)]
    shapes += [((96, 128, 64), ISOTROPIC), ((16, 128, 128), anisotropic)]
    return [
        Step(patch_size=patch, strides=strides, batch_size=batch, features=features)
        for features in SIZES.values()
        for patch, strides in shapes
        # whatever the patch, memory grows in proportion to the batch
        for batch in ((1, 2, 4) if patch == (64, 64, 64) else (2,))
    ]


def main() -> None:
    """Trace, fit, and print both."""
    for checkpointing in (False, True):
        traced = samples([replace(step, checkpointing=checkpointing) for step in steps()])
        print(f"\n{'with' if checkpointing else 'without'} checkpointing\n")
        print("| features | patch | batch | traced GB | model GB |\n|---|---|---:|---:|---:|")
        for sample in traced:
            step = sample.step
            print(
                f"| {' '.join(map(str, step.features))} | {'×'.join(map(str, step.patch_size))} | "
                f"{step.batch_size} | {sample.traced / 1e9:.2f} | {step_bytes(step) / 1e9:.2f} |"
            )
        print("\nfitted to the traced column:")
        for term, value in fit(traced).items():
            print(f"    {term!r}: {value:.1f},")


if __name__ == "__main__":
    main()
