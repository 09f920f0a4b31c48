"""How long `torch.compile` takes from a cold cache, beside nnU-Net's default network.

`python -m benchmarks.compile_time` writes `results/speed/compile_time.md`. Each network has a
process and a cache of its own. One worker compiles the kernels one by one, so these are processor
seconds; what a step takes once compiled is subtracted.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu import run_limited
from benchmarks.networks import BASELINE, INPUT_CHANNELS, NETWORKS
from benchmarks.speed import RESULTS
from nnunetv2_s2ca.architecture import fused
from nnunetv2_s2ca.architecture.fused import choice
from nnunetv2_s2ca.architecture.global_branch import ConvFormerBlock
from nnunetv2_s2ca.architecture.shifted_mlp import AxialShiftBlock
from nnunetv2_s2ca.core.files import write_text

FORMULAS = "S2CA-Net, its formulas"  # as other devices compile it
BY_REGION = "S2CA-Net, its 2D blocks alone"  # each kind of block once, the rest eager
NAMES = (BASELINE, "S2CA-Net", FORMULAS, BY_REGION, "S2CA-Net-S")
LIMIT = 3600.0  # seconds for a network


def main() -> None:
    """Measure each network in its own process, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [*NETWORKS, FORMULAS, BY_REGION]
    parser.add_argument("--patch", type=int, nargs=3, default=(64, 64, 64))
    parser.add_argument("--networks", nargs="+", choices=names, default=NAMES)
    parser.add_argument("--measure", choices=names, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    patch = tuple(arguments.patch)
    if arguments.measure:
        print(json.dumps(_measure(arguments.measure, patch)))
        return
    rows = {name: _measure_in_process(name, patch) for name in arguments.networks}
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_text(RESULTS / "compile_time.md", _markdown(rows, patch))
    print((RESULTS / "compile_time.md").read_text())


def _measure_in_process(name: str, patch: Sequence[int]) -> dict[str, float | str]:
    command = [sys.executable, "-m", "benchmarks.compile_time", "--measure", name]
    with tempfile.TemporaryDirectory() as cache:
        return run_limited(
            [*command, "--patch", *map(str, patch)],
            LIMIT,
            TORCHINDUCTOR_CACHE_DIR=cache,
            TORCHINDUCTOR_COMPILE_THREADS="1",
            OMP_NUM_THREADS="1",
        )


def _measure(name: str, patch: Sequence[int]) -> dict[str, float]:
    """Processor seconds of the first step without those of a later one, and of that one."""
    torch.manual_seed(0)
    if name == FORMULAS:
        for module in (fused, choice):
            vars(module)["on_processor"] = lambda _: False
    network = NETWORKS[name.split(",")[0]](patch).train()
    if name == BY_REGION:
        for block in network.modules():
            if isinstance(block, ConvFormerBlock | AxialShiftBlock):
                block.compile()
        run: Callable[[Tensor], Any] = network
    else:
        run = torch.compile(network)
    x = torch.randn(1, INPUT_CHANNELS, *patch)

    def step() -> float:
        start = _processor_seconds()
        sum(output.square().mean() for output in run(x)).backward()
        return _processor_seconds() - start

    first, later = step(), step()
    return {"compile_s": first - later, "step_s": later}


def _processor_seconds() -> float:
    """Seconds of this process and of the compilers that it has run."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _markdown(rows: dict[str, dict[str, float | str]], patch: Sequence[int]) -> str:
    base = rows.get(BASELINE, {}).get("compile_s")
    lines = [
        "# Compiling a training step from a cold cache",
        "",
        f"`python -m benchmarks.compile_time`: patch {'×'.join(map(str, patch))}, batch 1, fp32, "
        f"the CPU backend of Inductor on {platform.machine()}, PyTorch {torch.__version__}; "
        "processor seconds of forward and backward pass together. A GPU gets the formulas, from "
        "another compiler, which takes other times.",
        "",
        "| network | compiling, s | × | a step then, s |",
        "|---|---:|---:|---:|",
    ]
    for name, row in rows.items():
        if "error" in row:
            lines.append(f"| {name} | {row['error']} | | |")
            continue
        seconds = float(row["compile_s"])
        ratio = f"{seconds / float(base):.2f}" if base else ""
        lines.append(f"| {name} | {seconds:.0f} | {ratio} | {float(row['step_s']):.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
