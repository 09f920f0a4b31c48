"""Where the time and memory of a training step of S2CA-Net go, part by part.

`python -m benchmarks.parts` writes `results/speed/parts.<device>.md`. Every part runs alone on the
input that it has inside the network, forward and backward.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from benchmarks.memory import KeptForBackward
from benchmarks.networks import INPUT_CHANNELS, NETWORKS
from benchmarks.speed import RESULTS
from nnunetv2_s2ca import S2CANet
from nnunetv2_s2ca.architecture.merging import merge

# name, function, input maps
Part = tuple[str, Callable[..., Any], Sequence[Tensor]]


def main() -> None:
    """Measure every part and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patch", type=int, nargs=3, default=(128, 128, 128))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs after the warm-up")
    parser.add_argument("--threads", type=int, default=psutil.cpu_count(logical=False))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    network = NETWORKS["S2CA-Net"](arguments.patch).to(device).train()
    assert isinstance(network, S2CANet)
    x = torch.randn(1, INPUT_CHANNELS, *arguments.patch, device=device)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    rows = []
    for name, compute, maps in _parts(network, x):
        print(f"{name} …", flush=True)
        rows.append((name, *_measure(network, compute, maps, arguments.repeats)))
    options = (
        "" if tuple(arguments.patch) == (128,) * 3 else " --patch {} {} {}".format(*arguments.patch)
    )
    table = _markdown(rows, f"python -m benchmarks.parts{options}", arguments)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"parts.{arguments.device}.md").write_text(table)
    print(table)


def _parts(network: S2CANet, x: Tensor) -> Iterator[Part]:
    """The parts in the order in which the network runs them, each with its input."""
    encoder: Any = network.encoder
    decoder: Any = network.decoder
    skips: Any = network.skips
    levels: list[Tensor] = []
    for level, block in enumerate(encoder.stages):
        name = f"encoder, level {level}"
        yield f"{name}: residual block", block.forward_with_stem, [x]
        with torch.no_grad():
            x, stem = block.forward_with_stem(x)
        if (branch := _branch(encoder, level)) is not None:
            yield f"{name}: global branch", branch, [stem]
            with torch.no_grad():
                x = x + branch(stem)
        levels.append(x)
    yield "bottleneck (MCA)", lambda *maps: network.bottleneck(maps), levels

    def gather(*maps: Tensor) -> tuple[Tensor, Tensor]:
        gathered = torch.cat([skips.down(maps[0]), maps[1], skips.up(maps[2])], dim=1)
        return gathered, skips.channel_attention.gate(gathered)

    def adapt(z: Tensor, scale: Tensor) -> Tensor:
        return skips.deform_conv(z, scale=scale)

    yield "skips (MS-ADC): gather three levels", gather, levels[:3]
    with torch.no_grad():
        z = gather(*levels[:3])
        y = adapt(*z)
        bottom, adapted = network.bottleneck(levels), skips(levels[:3])
    yield "skips (MS-ADC): deformable convolution", adapt, z
    yield (
        "skips (MS-ADC): hand back to three levels",
        lambda y, *maps: [m + to(y) for m, to in zip(maps, skips.to_skips, strict=True)],
        [y, *levels[:3]],
    )

    x = bottom
    for level in reversed(range(len(levels))):
        name, block = f"decoder, level {level}", decoder.stages[level]
        if level == len(adapted):
            yield f"{name}: residual block", block, [x]
            merged = x
        else:
            skip, gate = adapted[level], decoder.gates[level]
            yield f"{name}: gate", gate, [x, skip]
            with torch.no_grad():
                maps = [skip, gate(x, skip), x]
                merged = merge(*maps)
            yield f"{name}: residual block, merging included", block.forward_merged, maps
        with torch.no_grad():
            x = block(merged)
        if (branch := _branch(decoder, level)) is not None:
            yield f"{name}: global branch", branch, [merged]
            with torch.no_grad():
                x = x + branch(merged)
        yield f"head {level}", decoder.seg_layers[level], [x]


def _branch(side: Any, level: int) -> nn.Module | None:
    return dict(side.branches.items()).get(str(level))


def _measure(
    network: nn.Module, compute: Callable[..., Any], maps: Sequence[Tensor], repeats: int
) -> tuple[float, float, float]:
    """Seconds forward and backward, and MB kept in between besides weights and input."""
    forward, backward = [], []
    for _ in range(1 + repeats):
        inputs = [y.detach().requires_grad_() for y in maps]
        start = _now(maps[0])
        kept = KeptForBackward([*inputs, *network.parameters()])
        with kept:
            outputs = compute(*inputs)
        forward.append(_now(maps[0]) - start)
        outputs = (
            [outputs] if isinstance(outputs, Tensor) else [y for y in outputs if y is not None]
        )
        grads = [torch.ones_like(y) for y in outputs]
        start = _now(maps[0])
        torch.autograd.backward(outputs, grads)
        backward.append(_now(maps[0]) - start)
    return statistics.median(forward[1:]), statistics.median(backward[1:]), kept.nbytes / 1e6


def _now(x: Tensor) -> float:
    if x.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _markdown(
    rows: Sequence[tuple[str, float, float, float]], command: str, arguments: argparse.Namespace
) -> str:
    size = "×".join(map(str, arguments.patch))
    where = "GPU" if arguments.device == "cuda" else f"{arguments.threads} CPU threads"
    total = sum(forward + backward for _, forward, backward, _ in rows)
    lines = [
        "# Where a training step of S2CA-Net goes",
        "",
        f"`{command}`: patch {size}, batch 1, fp32, {where}, PyTorch {torch.__version__}; each "
        f"part alone, median of {arguments.repeats} after a warm-up. Kept: what the forward pass "
        f"keeps for the backward pass besides weights and the part's input.",
        "",
        "| part | forward s | backward s | share of the step | kept MB |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, forward, backward, kept in rows:
        share = (forward + backward) / total
        lines.append(f"| {name} | {forward:.2f} | {backward:.2f} | {share:.0%} | {kept:.0f} |")
    sums = [sum(column) for column in list(zip(*rows, strict=True))[1:]]
    lines.append(f"| all parts | {sums[0]:.2f} | {sums[1]:.2f} | | {sums[2]:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
