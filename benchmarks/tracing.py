"""Run a network on a CUDA device that is not there, and see every operation it would launch.

Tensors are fake: they have a shape, a dtype and a device, and no values. A build of PyTorch for
CUDA is needed, a card is not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import Node
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What makes room or looks at a shape, and launches nothing.
_NO_LAUNCH = {
    "alias",
    "detach",
    "device",
    "empty",
    "empty_like",
    "empty_strided",
    "is_same_size",
    "lift_fresh",
    "new_empty",
    "new_empty_strided",
    "_unsafe_view",
}
# What waits for values to arrive on the host.
_SYNCHRONISING = {"_local_scalar_dense", "equal", "is_nonzero", "masked_select", "nonzero"}


@dataclass
class Counts:
    """Operations launched on a device.

    Attributes:
        launches: operations that PyTorch calls one by one and that are no views; a convolution adds
            its bias in a launch of its own, and its gradients are a launch each.
        nbytes: what they read and write, each operand once, whatever a cache saves or a kernel
            reads twice.
    """

    launches: int = 0
    nbytes: int = 0


class Launches(TorchDispatchMode):
    """Inside `with`, counts what is launched, by part.

    Attributes:
        part: name of the part to which operations count now.
        counts: what each part launched.
        host_copies: operations that moved a tensor between host and device.
        synchronisations: operations that waited for the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.part = ""
        self.counts: dict[str, Counts] = defaultdict(Counts)
        self.host_copies: list[str] = []
        self.synchronisations: list[str] = []

    @property
    def total(self) -> Counts:
        """All parts together."""
        return Counts(
            sum(counts.launches for counts in self.counts.values()),
            sum(counts.nbytes for counts in self.counts.values()),
        )

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in _SYNCHRONISING:
            self.synchronisations.append(name)
        out = func(*args, **(kwargs or {}))
        read, written = _tensors((args, kwargs)), _tensors(out)
        if func.is_view or name in _NO_LAUNCH or not read + written:
            return out
        if {"cpu", "cuda"} <= {y.device.type for y in read + written}:
            self.host_copies.append(name)
        launches, nbytes = 1, _nbytes(read + written)
        if name == "convolution" and args[2] is not None:
            launches, nbytes = 2, nbytes + 2 * _nbytes(written)
        elif name == "convolution_backward":
            # of the input, the weight, the bias; each reads the output's gradient
            launches = sum(args[-1])
            nbytes += (launches - 1) * _nbytes([args[0]])
        counts = self.counts[self.part]
        counts.launches += launches
        counts.nbytes += nbytes
        return out


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _nbytes(tensors: Sequence[Tensor]) -> int:
    """Bytes of what tensors show; what is expanded counts once."""
    total = 0
    for y in tensors:
        values = 1
        for length, step in zip(y.shape, y.stride(), strict=True):
            values *= length if step else 1
        total += values * y.itemsize
    return total


def cuda_can_be_traced() -> bool:
    """Whether this build of PyTorch knows CUDA."""
    return torch.backends.cuda.is_built()


@contextmanager
def no_values() -> Iterator[None]:
    """Inside `with`, new tensors are fake, and CUDA's autocast works without a card."""
    with (
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False),
        FakeTensorMode(),
    ):
        yield


def without_values(network: nn.Module, device: str) -> nn.Module:
    """Give a network fake weights on a device, inside `no_values`, and return it."""
    for module in network.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                fake = torch.empty(weight.shape, dtype=weight.dtype, device=device)
                module._parameters[name] = nn.Parameter(fake)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                fake = torch.empty(buffer.shape, dtype=buffer.dtype, device=device)
                module._buffers[name] = fake
    return network


def backward(
    outputs: Iterable[Tensor],
    grads: Sequence[Tensor],
    *,
    before: Callable[[Node], None] = lambda node: None,
) -> dict[Tensor, Tensor]:
    """Gradients of all leaves, by calling one node of the autograd graph after the other.

    PyTorch's engine does that, too, but it asks for streams of the device, which has to be there.
    As in the engine, a node is gone once it was called, with what it kept, unless the caller still
    has one of the outputs.

    Args:
        outputs: tensors that have a gradient function.
        grads: their gradients.
        before: is called with each node before it is.
    """
    roots = [(y.grad_fn, y.output_nr, grad) for y, grad in zip(outputs, grads, strict=True)]
    order = _topological_order([node for node, _, _ in roots if node is not None])
    arrived: dict[Node, list[Tensor | None]] = {
        node: [None] * len(node._input_metadata) for node in order
    }

    def arrive(node: Node, index: int, grad: Tensor) -> None:
        expected = node._input_metadata[index]
        if grad.shape != expected.shape:  # broadcasting is undone by whoever receives
            grad = grad.sum_to_size(expected.shape)
        grad = grad.to(expected.dtype)
        before = arrived[node][index]
        arrived[node][index] = grad if before is None else before + grad

    found: dict[Tensor, Tensor] = {}
    with torch.no_grad():
        for node, index, grad in roots:
            if node is not None:
                arrive(node, index, grad)
        del roots, grads, node
        order.reverse()
        while order:
            node = order.pop()
            received = arrived.pop(node)
            if all(grad is None for grad in received):
                continue
            if hasattr(node, "variable"):  # a leaf
                assert received[0] is not None
                found[node.variable] = received[0]
                continue
            before(node)
            made = node(*received)  # type: ignore[operator] # which its type leaves out
            received.clear()
            made = made if isinstance(made, tuple) else (made,)
            for (following, index), grad in zip(node.next_functions, made, strict=True):
                if following is not None and grad is not None:
                    arrive(following, index, grad)
            del made, node, following, grad
    return found


def _topological_order(roots: Sequence[Node]) -> list[Node]:
    """All nodes that can be reached, each before those that follow it."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(root, False) for root in roots]
    while stack:
        node, followed = stack.pop()
        if followed:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((n, False) for n, _ in node.next_functions if n is not None)
    return order[::-1]
