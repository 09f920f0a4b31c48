"""Register a fast form as one operation, with its gradient, for eager mode and compiler alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, get_type_hints

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula


class Options(Protocol):
    """A named tuple of whole numbers, and how many outputs an operation has with them."""

    def __iter__(self) -> Iterator[int]: ...

    @property
    def outputs(self) -> int:
        """How many of the tensors that an operation makes are outputs; it keeps the others."""


Arguments = TypeVar("Arguments", bound=NamedTuple)
Chosen = TypeVar("Chosen", bound=Options)

# What is inside each operation, for those who watch every tensor: PyTorch's modes see an operation
# from outside.
IMPLEMENTATIONS: dict[Any, Callable[..., list[Tensor]]] = {}


class FusedOperation(Generic[Arguments, Chosen]):
    """An operation into which neither autograd nor the compiler looks.

    Args:
        name: of the operation, `s2ca::name`.
        arguments: named tuple of its arguments: tensors, named tuples of tensors, or None.
        options: named tuple of whole numbers.
        forward: arguments and options → the outputs, then what the backward pass needs besides
            the arguments; no output may share memory with an argument or another output.
        backward: arguments, options, what was kept, and gradients of the outputs (None where
            undefined) → gradients, named as the arguments, None where an argument is None.
        fake: arguments and options → empty tensors of the shapes and dtypes that `forward` makes.
    """

    def __init__(
        self,
        name: str,
        arguments: type[Arguments],
        options: type[Chosen],
        *,
        forward: Callable[[Arguments, Chosen], list[Tensor]],
        backward: Callable[[Arguments, Chosen, list[Tensor], list[Tensor | None]], Arguments],
        fake: Callable[[Arguments, Chosen], list[Tensor]],
    ):
        self.arguments, self.options = arguments, options
        self.forward, self.backward, self.fake = forward, backward, fake
        self._operation = torch.library.custom_op(
            f"s2ca::{name}",
            self._forward,
            mutates_args=(),
            schema="(Tensor[] tensors, int[] given, int[] options) -> Tensor[]",
        )
        self._backward_operation = torch.library.custom_op(
            f"s2ca::{name}_backward",
            self._backward,
            mutates_args=(),
            schema="(Tensor[] tensors, int[] given, int[] options, Tensor[] kept, Tensor[] grads, "
            "int[] grads_given) -> Tensor[]",
        )
        self._operation.register_fake(self._fake)
        self._backward_operation.register_fake(self._fake_backward)
        self._operation.register_autograd(self._differentiate, setup_context=self._keep)
        self._packets = (
            getattr(torch.ops.s2ca, name),
            getattr(torch.ops.s2ca, f"{name}_backward"),
        )
        for packet, inside in zip(self._packets, (self._forward, self._backward), strict=True):
            IMPLEMENTATIONS[packet.default] = inside

    def __call__(self, arguments: Arguments, options: Chosen) -> list[Tensor]:
        """Return the outputs."""
        leaves = _flatten(arguments)
        made = self._operation(
            [leaf for leaf in leaves if leaf is not None],
            [int(leaf is not None) for leaf in leaves],
            list(options),
        )
        return made[: options.outputs]

    def count_flops(self, formula: Callable[[Any, Chosen], int]) -> None:
        """Let PyTorch's counter count the operation; the backward pass costs twice as much.

        Args:
            formula: shapes in place of the arguments, and options → floating point operations of
                the forward pass.
        """

        def forward(
            shapes: Sequence[Any], given: Sequence[int], options: Sequence[int], **_: Any
        ) -> int:
            return formula(self._rebuild(shapes, given), self.options(*options))

        def backward(
            shapes: Sequence[Any], given: Sequence[int], options: Sequence[int], *_: Any, **__: Any
        ) -> int:
            return 2 * forward(shapes, given, options)

        for packet, counted in zip(self._packets, (forward, backward), strict=True):
            register_flop_formula(packet)(counted)

    def _rebuild(self, leaves: Sequence[Any], given: Sequence[int]) -> Arguments:
        remaining = iter(leaves)
        return _unflatten(self.arguments, iter(next(remaining) if g else None for g in given))

    def _forward(self, tensors: list[Tensor], given: list[int], options: list[int]) -> list[Tensor]:
        with torch.autocast(tensors[0].device.type, enabled=False):
            return self.forward(self._rebuild(tensors, given), self.options(*options))

    def _fake(self, tensors: list[Tensor], given: list[int], options: list[int]) -> list[Tensor]:
        return self.fake(self._rebuild(tensors, given), self.options(*options))

    def _backward(self, *inputs: Any) -> list[Tensor]:
        tensors, given, options, kept, grads, grads_given = inputs
        remaining = iter(grads)
        all_grads = [next(remaining) if g else None for g in grads_given]
        with torch.autocast(tensors[0].device.type, enabled=False):
            found = self.backward(
                self._rebuild(tensors, given), self.options(*options), kept, all_grads
            )
        return [grad for grad in _flatten(found) if grad is not None]

    def _fake_backward(self, tensors: list[Tensor], *_: Any) -> list[Tensor]:
        return [torch.empty_like(tensor) for tensor in tensors]

    def _keep(self, ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
        tensors, ctx.given, ctx.options = inputs
        ctx.outputs = self.options(*ctx.options).outputs
        ctx.count = len(tensors)
        # else the undefined gradients of what is kept would be maps of zeros
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output[ctx.outputs :])

    def _differentiate(self, ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
        saved = list(ctx.saved_tensors)
        visible = grads[: ctx.outputs]
        # PyTorch takes an empty list for one of tensors
        no_grads: tuple[Any, ...] = (None, None if ctx.options else [])
        if all(grad is None for grad in visible):
            return [None] * ctx.count, *no_grads
        found = self._backward_operation(
            saved[: ctx.count],
            ctx.given,
            ctx.options,
            saved[ctx.count :],
            [grad for grad in visible if grad is not None],
            [int(grad is not None) for grad in visible],
        )
        return found, *no_grads


def _flatten(arguments: Any) -> list[Any]:
    """Leaves of nested named tuples, in order."""
    leaves: list[Any] = []
    for value in arguments:
        leaves.extend(_flatten(value) if isinstance(value, tuple) else [value])
    return leaves


def _unflatten(kind: Any, leaves: Iterator[Any]) -> Any:
    """Undo `_flatten` for a named tuple type."""
    return kind(
        *(
            _unflatten(hint, leaves) if hasattr(hint, "_fields") else next(leaves)
            for hint in get_type_hints(kind).values()
        )
    )
