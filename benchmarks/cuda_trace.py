"""What S2CA-Net launches on a CUDA device, counted without one.

`python -m benchmarks.cuda_trace` writes `results/speed/cuda_trace.md`. PyTorch runs forward and
backward pass with fake CUDA tensors under fp16 autocast, and a mode below it sees every operation.
It needs a build of PyTorch for CUDA, and no card. Nothing here is a time.
"""

from __future__ import annotations

import argparse
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import Node

from benchmarks.networks import INPUT_CHANNELS, NETWORKS
from benchmarks.speed import RESULTS
from benchmarks.tracing import (
    Counts,
    Launches,
    backward,
    cuda_can_be_traced,
    no_values,
    without_values,
)

PATCH = (128, 128, 128)
BATCHES = (1, 2)
OTHER = "sums of branches"


def main() -> None:
    """Trace the network for each batch size, and write the tables."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    if not cuda_can_be_traced():
        raise SystemExit(
            "this build of PyTorch does not know CUDA; install one for CUDA, a card is not needed"
        )
    lines = [
        "# What a CUDA device would have to do",
        "",
        f"`python -m benchmarks.cuda_trace`: S2CA-Net, patch {'×'.join(map(str, PATCH))}, fp16 "
        f"autocast, eager, PyTorch {torch.__version__}. Traced with fake tensors, not measured: no "
        f"card was there.",
        "",
        "- Launches: operations that PyTorch calls one by one and that are no views. A convolution "
        "adds its bias in a launch of its own, and its gradients are a launch each. Some "
        "operations, as norms, are more than one kernel on a card.",
        "- GB: what the operations read and write, each operand once, 1 GB = 10⁹ bytes. Caches "
        "make it less on a card, kernels that read a map twice make it more.",
    ]
    for batch in BATCHES:
        lines += ["", f"## Batch {batch}", "", *_table(*trace_training(PATCH, batch))]
        prediction = trace_prediction(PATCH, batch)
        lines += ["", f"Prediction: {_cells(prediction.total)} ({_moved(prediction)})."]
    text = "\n".join(lines) + "\n"
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "cuda_trace.md").write_text(text)
    print(text)


def trace_training(
    patch: Sequence[int], batch: int, *, autocast: bool = True, **arguments: Any
) -> tuple[Launches, Launches]:
    """Forward and backward pass under deep supervision.

    Args:
        patch: spatial size of the input.
        batch: number of samples.
        autocast: to fp16.
        **arguments: of S2CANet, to change it.
    """
    network = NETWORKS["S2CA-Net"](patch, **arguments).train()
    forward_launches, backward_launches = Launches(), Launches()
    parts = _Parts(network, forward_launches)
    with no_values():
        without_values(network, "cuda")
        x = torch.empty(batch, INPUT_CHANNELS, *patch, device="cuda")
        with torch.autocast("cuda", torch.float16, enabled=autocast), forward_launches:
            outputs = network(x)
        grads = [torch.empty_like(y) for y in outputs]

        def before(node: Node) -> None:
            backward_launches.part = parts.of(node)

        with backward_launches:
            found = backward(outputs, grads, before=before)
    if missing := [n for n, p in network.named_parameters() if p not in found]:
        raise AssertionError(f"no gradient reached {missing}")
    return forward_launches, backward_launches


def trace_prediction(patch: Sequence[int], batch: int, **arguments: Any) -> Launches:
    """Forward pass for the finest output, as nnU-Net's predictor runs it."""
    network: Any = NETWORKS["S2CA-Net"](patch, **arguments).eval()
    network.decoder.deep_supervision = False
    launches = Launches()
    with no_values(), torch.no_grad():
        without_values(network, "cuda")
        x = torch.empty(batch, INPUT_CHANNELS, *patch, device="cuda")
        with torch.autocast("cuda", torch.float16), launches:
            network(x)
    return launches


class _Parts:
    """Tells a network's parts apart, in its forward pass by calls, then by autograd's nodes."""

    def __init__(self, network: Any, launches: Launches):
        self.launches = launches
        # where the nodes of each part begin, in the order in which they are made
        self.starts: list[int] = []
        self.names: list[str] = []
        self._enter(OTHER)
        for side in ("encoder", "decoder"):
            for kind, name in (
                ("stages", "residual block"),
                ("gates", "gate"),
                ("branches", "global branch"),
                ("seg_layers", "head"),
            ):
                modules = getattr(getattr(network, side), kind, nn.Module())
                for level, module in modules.named_children():
                    self._watch(module, f"{side}, level {level}: {name}")
        self._watch(network.bottleneck, "bottleneck (MCA)")
        self._watch(network.skips, "skips (MS-ADC)")
        self._watch(network.skips.deform_conv, "skips (MS-ADC): deformable convolution")

    def of(self, node: Node) -> str:
        """The part in whose forward pass a node was made."""
        return self.names[bisect_right(self.starts, node._sequence_nr()) - 1]

    def _watch(self, module: nn.Module, name: str) -> None:
        # a decoder's block merges its input itself where it may
        for method in ("forward", "forward_with_stem", "forward_merged"):
            if hasattr(module, method):
                setattr(module, method, self._watched(getattr(module, method), name))

    def _watched(self, method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            outer = self.launches.part
            self._enter(name)
            out = method(*arguments, **named)
            self._enter(outer)
            return out

        return watched

    def _enter(self, name: str) -> None:
        self.launches.part = name
        self.names.append(name)
        self.starts.append(torch.autograd._get_sequence_nr())


def _table(forward: Launches, backward: Launches) -> list[str]:
    lines = [
        "| part | forward: launches | GB | backward: launches | GB |",
        "|---|---:|---:|---:|---:|",
    ]
    for part in forward.counts:
        lines.append(
            f"| {part} | {_cells(forward.counts[part], ' | ')} | "
            f"{_cells(backward.counts[part], ' | ')} |"
        )
    lines.append(f"| all | {_cells(forward.total, ' | ')} | {_cells(backward.total, ' | ')} |")
    return [*lines, "", f"Forward: {_moved(forward)}. Backward: {_moved(backward)}."]


def _cells(counts: Counts, between: str = " launches, ") -> str:
    unit = "" if between == " | " else " GB"
    return f"{counts.launches:,}{between}{counts.nbytes / 1e9:.2f}{unit}"


def _moved(launches: Launches) -> str:
    return (
        f"{len(launches.host_copies)} copies between host and device, "
        f"{len(launches.synchronisations)} synchronisations"
    )


if __name__ == "__main__":
    main()
