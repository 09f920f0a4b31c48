"""Memory of a training step on a CUDA device, counted on tensors that have no values.

    python -m benchmarks.card_memory

prints, for sizes of the network, patch and batch, the most bytes that live at one time in a step
under autocast in fp16, and fits the model of `nnunetv2_s2ca.planning.memory` to them. It counts
tensors: what cuDNN, the allocator and the driver take besides is not in it, and no card was
there. A build of PyTorch for CUDA is needed.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from unittest import mock

import numpy as np
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from scipy.optimize import nnls
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import Node
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nnunetv2_s2ca import S2CANet
from nnunetv2_s2ca.planning.memory import TERMS, Step, fixed_bytes, kept_terms, step_bytes
from nnunetv2_s2ca.training.catalogue import BRATS

ISOTROPIC = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
SIZES = {"S": (8, 16, 32, 64), "base": (16, 32, 64, 128), "L": (32, 64, 128, 256)}


class LiveBytes(TorchDispatchMode):
    """Inside `with`, counts the bytes of the tensors that operations made and that still live.

    Attributes:
        now: bytes now.
        peak: most bytes so far.
    """

    def __init__(self, known: Sequence[Tensor]):
        super().__init__()
        self.now = self.peak = 0
        self.sizes = dict.fromkeys((y.untyped_storage()._cdata for y in known), 0)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.sizes:
                    self.sizes[storage._cdata] = storage.nbytes()
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._gone, storage._cdata)
        return out

    def _gone(self, key: int) -> None:
        self.now -= self.sizes.pop(key)


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
        ).train()
    with (
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False),
        FakeTensorMode(),
        torch.device("cuda"),
    ):
        _on_the_card(network)
        patch = torch.empty(step.batch_size, step.input_channels, *step.patch_size)
        strides = np.cumprod(step.strides, axis=0)
        targets = [
            torch.empty(step.batch_size, step.num_classes, *np.array(step.patch_size) // stride)
            for stride in strides.tolist()
        ]
        loss = _loss(len(targets))
        weights = list(network.parameters())
        with LiveBytes([*weights, *network.buffers(), patch, *targets]) as live:
            with torch.autocast("cuda", dtype=torch.float16):
                values = [loss(network(patch), targets)]
            _backward(values)
        known = sum(y.untyped_storage().nbytes() for y in (*weights, patch, *targets))
    moments = 2 * sum(weight.numel() * weight.element_size() for weight in weights)
    return live.peak + known + moments


def _on_the_card(network: nn.Module) -> None:
    """Give a network weights without values, on the default device."""
    for module in network.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = nn.Parameter(torch.empty(weight.shape))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.zeros(buffer.shape, dtype=buffer.dtype)


def _loss(levels: int) -> nn.Module:
    of_regions = DC_and_BCE_loss(
        {},
        {"batch_dice": False, "do_bg": True, "smooth": 1e-5, "ddp": False},
        dice_class=MemoryEfficientSoftDiceLoss,
    )
    return DeepSupervisionWrapper(of_regions, [1 / levels] * levels)


def _backward(values: list[Tensor]) -> dict[Tensor, Tensor]:
    """Gradients of all leaves, by calling the nodes of the graph one after the other.

    PyTorch's engine does that as well, but asks for streams of a device that has to be there. As
    there, a node is gone, with what it kept, once it has been called.

    Args:
        values: one scalar, which is taken out of the list, since it would keep the whole graph.
    """
    root: Any = values.pop().grad_fn
    waiting = _topological_order(root)
    waiting.reverse()
    arrived: dict[Node, list[Tensor | None]] = {
        node: [None] * len(node._input_metadata) for node in waiting
    }
    gradients: dict[Tensor, Tensor] = {}
    arrived[root][0] = torch.ones((), device="cuda")
    del root
    with torch.no_grad():
        while waiting:
            node = waiting.pop()
            received = arrived.pop(node)
            if all(grad is None for grad in received):
                continue
            if hasattr(node, "variable"):
                assert received[0] is not None
                gradients[node.variable] = received[0]
                continue
            made = cast(Any, node)(*received)
            received.clear()
            made = made if isinstance(made, tuple) else (made,)
            for (following, index), grad in zip(node.next_functions, made, strict=True):
                if following is not None and grad is not None:
                    _arrive(arrived[following], index, grad, following._input_metadata[index])
            del made, grad, following, node
    return gradients


def _arrive(received: list[Tensor | None], index: int, grad: Tensor, expected: Any) -> None:
    if grad.shape != expected.shape:  # broadcasting is undone by whoever receives
        grad = grad.sum_to_size(expected.shape)
    grad = grad.to(expected.dtype)
    before = received[index]
    received[index] = grad if before is None else before + grad


def _topological_order(root: Node) -> list[Node]:
    """All nodes that can be reached, each before those that follow it."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(root, False)]
    while stack:
        node, followed = stack.pop()
        if followed:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((n, False) for n, _ in node.next_functions if n is not None)
    return order[::-1]


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
    traced = samples(steps())
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


assert BRATS["input_channels"] == Step.input_channels

if __name__ == "__main__":
    main()
