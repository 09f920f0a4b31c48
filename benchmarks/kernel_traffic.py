"""Memory traffic of the Triton kernels beside the plain formulation, without a card.

`python -m benchmarks.kernel_traffic` writes `results/speed/triton.md`: the plain formulation traced
with fake CUDA tensors, the kernels computed from the shapes, and what the compiler makes of them.
No time in it was measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.speed import RESULTS
from benchmarks.tracing import Launches, backward, no_values
from benchmarks.triton_kernels import compile_kernel
from nnunetv2_s2ca.architecture.deform_conv import TAPS, deform_conv3d
from nnunetv2_s2ca.architecture.ms_adc import CHANNEL_REDUCTION

BATCH, LENGTH, HALF, SINGLE = 2, 64, 2, 4  # a patch of 128³ at the middle level; bytes
# Level 1 of each network has as many features; the deformable convolution has three times as many.
SIZES = {"S2CA-Net-S": 16, "S2CA-Net": 32, "S2CA-Net-L": 64}
# TB/s by data sheet; kernels bound by memory reach some 80 % of it.
BANDWIDTHS = {"A100 80 GB": 2.04, "H100": 3.35}
REACHED = 0.8
# The units of S2CA-Net: length of the input's axes, channels in and out, stride.
UNITS = (
    *((128, 4, 16, 1), (128, 16, 16, 1)),
    *((128, 16, 32, 2), (64, 32, 32, 1)),
    *((64, 32, 64, 2), (32, 64, 64, 1)),
    *((32, 64, 128, 2), (16, 128, 128, 1)),
    *((16, 240, 128, 1), (16, 128, 128, 1), (16, 128, 128, 1), (16, 128, 128, 1)),
    *((16, 128, 128, 1), (16, 128, 128, 1)),
    *((32, 192, 64, 1), (32, 64, 64, 1)),
    *((64, 96, 32, 1), (64, 32, 32, 1)),
    *((128, 48, 16, 1), (128, 16, 16, 1)),
)


class Traffic(NamedTuple):
    """Launches and GB, each operand of an operation once."""

    launches: int
    gb: float


def plain(features: int) -> tuple[Traffic, ...]:
    """The formulation in PyTorch, forward and backward, as autocast runs it."""
    channels, outputs = _channels(features)
    size = (LENGTH,) * 3
    with no_values():
        x, offset, attention = (
            torch.empty(BATCH, c, *size, dtype=torch.float16, device="cuda", requires_grad=True)
            for c in (channels, 3 * TAPS, 1)
        )
        weight = torch.empty(outputs, channels * TAPS, device="cuda", requires_grad=True)
        with Launches() as forward:
            out = deform_conv3d(x, offset, weight, attention)
        with Launches() as back:
            backward([out], [torch.empty_like(out)])
    return tuple(Traffic(run.total.launches, run.total.nbytes / 1e9) for run in (forward, back))


def kernel(features: int) -> tuple[Traffic, ...]:
    """The Triton kernels, forward and backward; packing of x and of the weights included."""
    channels, outputs = _channels(features)
    voxels = BATCH * LENGTH**3
    x, offset, attention, out = (voxels * c * HALF for c in (channels, 3 * TAPS, 1, outputs))
    sums = voxels * (channels + 1) * SINGLE  # gradients of x and attention in fp32
    packing = 2 * x
    forward = packing + x + offset + attention + out
    # sums: made zero, read and written as they grow, converted
    back = packing + x + 2 * offset + attention + out + 4 * sums + x + attention
    # pad x, convert, pad and copy the weights; in the backward pass zeros and conversions, too
    return Traffic(5, forward / 1e9), Traffic(12, back / 1e9)


def _channels(features: int) -> tuple[int, int]:
    outputs = 3 * features
    return outputs // CHANNEL_REDUCTION, outputs


def unit_traffic(length: int, inputs: int, outputs: int, stride: int) -> tuple[float, float]:
    """GB of a unit's forward pass: operation by operation, and depthwise to statistics in one."""
    before = BATCH * length**3 * inputs * HALF
    between = BATCH * (length // stride) ** 3 * inputs * HALF
    after = BATCH * (length // stride) ** 3 * outputs * HALF
    # depthwise, pointwise, statistics, then norm and activation
    separate = before + between + between + after + after + 2 * after
    return separate / 1e9, (before + after + 2 * after) / 1e9


def main() -> None:
    """Compute, compile, and write the page."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    target = RESULTS / "triton.md"
    target.write_text(markdown())
    print(target.read_text())


def markdown() -> str:
    """The page."""
    return "\n".join([*_traffic_lines(), *_compiled_lines(), *_second_lines()]) + "\n"


def _traffic_lines() -> list[str]:
    lines = [
        "# Triton kernels, by computation",
        "",
        f"`python -m benchmarks.kernel_traffic`, without a card: nothing here is a measured time. "
        f"PyTorch {torch.__version__}, patch 128³, batch {BATCH}, fp16 autocast; the deformable "
        f"convolution then works on {LENGTH}³. The kernels are off unless S2CA_TRITON=1, until "
        "somebody has measured them on a card: `python -m benchmarks.gpu`.",
        "",
        "## Traffic of the deformable convolution",
        "",
        "Plain: every operation traced with fake CUDA tensors, each operand counted once. Kernel: "
        "bytes computed from the shapes, each tensor counted once where a cache holds it, launches "
        "counted by hand. ms: at "
        f"{REACHED:.0%} of the bandwidth, which bounds the time from below.",
        "",
        "| network | pass | plain: launches | GB | kernel: launches | GB | GB, kernel ÷ plain | "
        + " | ".join(f"ms saved, {card}" for card in BANDWIDTHS)
        + " |",
        "|---|---|" + "---:|" * (5 + len(BANDWIDTHS)),
    ]
    for name, features in SIZES.items():
        for direction, ours, theirs in zip(
            ("forward", "backward"), kernel(features), plain(features), strict=True
        ):
            cells = [name, direction, f"{theirs.launches}", f"{theirs.gb:.2f}"]
            cells += [f"{ours.launches}", f"{ours.gb:.2f}", f"{ours.gb / theirs.gb:.2f}"]
            cells += [f"{_ms(theirs.gb - ours.gb, tb):.2f}" for tb in BANDWIDTHS.values()]
            lines.append(f"| {' | '.join(cells)} |")
    channels, outputs = _channels(SIZES["S2CA-Net"])
    corners = BATCH * LENGTH**3 * TAPS * 8
    flop = 2 * BATCH * LENGTH**3 * TAPS * channels * outputs
    return [
        *lines,
        "",
        f"What traffic leaves out, for S2CA-Net: {corners / 1e6:.0f} million corners of {channels} "
        f"channels are read from the caches ({corners * channels * HALF / 1e9:.1f} GB; the map of "
        f"{LENGTH**3 * channels * HALF / 1e6:.0f} MB a sample stays in the L2 cache), and the "
        f"backward pass adds as many to the gradient of x by atomic operations of "
        f"{channels * SINGLE} bytes, as PyTorch's own does. They, not memory, may bound the "
        f"backward pass. The product has {flop / 1e9:.0f} GFLOP forward.",
        "",
    ]


def _ms(gb: float, tb_a_second: float) -> float:
    return gb / (tb_a_second * REACHED)


def _compiled_lines() -> list[str]:
    lines = [
        "## What the compiler makes of the kernels",
        "",
        "Compiled by Triton for cards that are not there; a multiprocessor has 65,536 registers.",
        "",
        "| network | pass | dtype | target | warps | registers | spilled bytes | shared KB |",
        "|---|---|---|---|" + "---:|" * 4,
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name, features in SIZES.items():
            channels, outputs = _channels(features)
            for direction in ("forward", "backward"):
                for capability in (80, 90):
                    made = compile_kernel(
                        direction,
                        capability=capability,
                        dtype="fp16",
                        channels=channels,
                        outputs=outputs,
                        cache=Path(folder),
                    )
                    lines.append(
                        f"| {name} | {direction} | fp16 | sm_{capability} | {made.warps} "
                        f"| {made.registers} | {made.spilled_bytes} "
                        f"| {made.shared_bytes / 1024:.0f} |"
                    )
    return [*lines, ""]


def _second_lines() -> list[str]:
    units: Sequence[tuple[float, float]] = [unit_traffic(*unit) for unit in UNITS]
    separate, fused = (sum(column) for column in zip(*units, strict=True))
    saved = separate - fused
    full = sum(a - b for (length, *_), (a, b) in zip(UNITS, units, strict=True) if length == 128)
    times = ", ".join(f"{_ms(saved, tb):.1f} ms ({card})" for card, tb in BANDWIDTHS.items())
    return [
        "## A second kernel: depthwise and pointwise convolution with the norm's statistics",
        "",
        f"The {len(UNITS)} units of S2CA-Net's residual blocks move {separate:.1f} GB forward, "
        "operation by operation with norm and activation in one. A kernel that writes nothing "
        f"between depthwise convolution and statistics would move {fused:.1f} GB: {saved:.1f} GB "
        f"less, {times}; {full / saved:.0%} of it at full resolution.",
        "",
        "By its traffic that pays on a card. It is not built: the gain holds only if the 27 "
        "neighbours of a voxel, which Triton cannot keep in shared memory by hand, come from the "
        "L1 cache at least as fast as in PyTorch's depthwise kernel or cuDNN's, and only a card "
        "can tell. Its backward pass would besides need the norm's two reductions and that of the "
        "weights over the whole map. Measure the first kernel, then decide.",
    ]


if __name__ == "__main__":
    main()
