"""Compare formulations of the deformable convolution, each in its own process.

`python -m benchmarks.deform_conv` writes `results/speed/deform_conv.<device>.md` and `.json`. All
formulations give the same values, which the program checks. Compare ratios within a run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Callable

import psutil
import torch
from torch import Tensor

from benchmarks.speed import RESULTS, timed
from nnunetv2_s2ca.architecture import fused
from nnunetv2_s2ca.architecture.deform_conv import deform_conv3d_formula
from nnunetv2_s2ca.architecture.fused.deform_conv import TAPS

Formulation = Callable[[Tensor, Tensor, Tensor], Tensor]

CHANNELS, OUTPUTS = 8, 16  # as at the finest level of S2CA-Net


def main() -> None:
    """Measure each formulation, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=96, help="voxels along each axis")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs after the warm-up")
    parser.add_argument("--threads", type=int, default=psutil.cpu_count(logical=False))
    # the program calls itself with this, one process per row
    parser.add_argument("--measure", choices=list(FORMULATIONS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(_measure(arguments)))
        return
    rows = {}
    for name in FORMULATIONS:
        print(f"{name} …", flush=True)
        command = [sys.executable, "-m", "benchmarks.deform_conv", *sys.argv[1:]]
        done = subprocess.run(
            [*command, "--measure", name], stdout=subprocess.PIPE, text=True, check=True
        )
        rows[name] = json.loads(done.stdout.splitlines()[-1])
    RESULTS.mkdir(parents=True, exist_ok=True)
    target = RESULTS / f"deform_conv.{arguments.device}.md"
    target.write_text(_markdown(rows, arguments))
    report = {"size": arguments.size, "threads": arguments.threads, "rows": rows}
    target.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    print(target.read_text())


def _measure(arguments: argparse.Namespace) -> dict:
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    size = (arguments.size,) * 3
    x = torch.randn(1, CHANNELS, *size, device=device, requires_grad=True)
    offset = torch.randn(1, 3 * len(TAPS), *size, device=device, requires_grad=True)
    weight = torch.randn(OUTPUTS, CHANNELS * len(TAPS), device=device, requires_grad=True)
    run = FORMULATIONS[arguments.measure]
    _check(run, device)

    def forward() -> None:
        with torch.inference_mode():
            run(x, offset, weight)

    def step() -> None:
        run(x, offset, weight).square().mean().backward()
        x.grad = offset.grad = weight.grad = None

    row = timed("forward", forward, device, arguments.repeats)
    return row | timed("step", step, device, arguments.repeats)


def _check(run: Formulation, device: torch.device) -> None:
    """Compare a formulation with the formula, except at jumps of the border rule."""
    x = torch.randn(1, CHANNELS, 9, 8, 7, device=device)
    offset = torch.randn(1, 3 * len(TAPS), 9, 8, 7, device=device)
    weight = torch.randn(OUTPUTS, CHANNELS * len(TAPS), device=device)
    error = (run(x, offset, weight) - deform_conv3d_formula(x, offset, weight)).abs()
    if error.quantile(0.999) > 1e-3:
        raise AssertionError("the formulation and the formula give different values")


def _eight_corners(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Eight neighbours of each position, gathered and weighted: arithmetic a compiler can fuse."""
    size = x.shape[2:]
    taps_weight = weight.unflatten(1, (-1, len(TAPS)))
    samples = []
    for volume, moves in zip(x, offset.unflatten(1, (3, len(TAPS))), strict=True):
        flat = volume.flatten(1)
        out = x.new_zeros(())
        for n, tap in enumerate(TAPS):
            low, share, valid = [], [], []
            for axis, length in enumerate(size):
                index = torch.arange(length, device=x.device)
                index = index.reshape([-1 if other == axis else 1 for other in range(3)])
                position = moves[axis, n] + (index + tap[axis])
                inside = (position >= 0) & (position <= length - 1)
                position = torch.where(inside, position, position.floor())
                below = position.floor()
                high = position - below
                low.append([below.long(), below.long() + 1])
                share.append([1 - high, high])
                valid.append([(i >= 0) & (i < length) for i in low[-1]])
            value = x.new_zeros(())
            for a, b, c in itertools.product((0, 1), repeat=3):
                inside = valid[0][a] & valid[1][b] & valid[2][c]
                at = (low[0][a] * size[1] + low[1][b]) * size[2] + low[2][c]
                corner = flat[:, torch.where(inside, at, 0)]
                value = value + corner * (share[0][a] * share[1][b] * share[2][c] * inside)
            out = out + torch.einsum("chwd,oc->ohwd", value, taps_weight[:, :, n])
        samples.append(out)
    return torch.stack(samples)


def _compiled(run: Formulation) -> Formulation:
    return torch.compile(run, fullgraph=True)


FORMULATIONS: dict[str, Formulation] = {
    "fused: nine taps at a time, sampled again in the backward pass": fused.deform_conv,
    "fused, compiled": _compiled(fused.deform_conv),
    "formula: all 27 taps": deform_conv3d_formula,
    "eight corners gathered": _eight_corners,
    "eight corners gathered, compiled": _compiled(_eight_corners),
}


def _markdown(rows: dict[str, dict], arguments: argparse.Namespace) -> str:
    base = next(iter(rows.values()))
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
    lines = [
        "# Formulations of the deformable convolution",
        "",
        f"`python -m benchmarks.deform_conv --size {arguments.size}`: {CHANNELS} channels of "
        f"{arguments.size}³ voxels sampled at 27 taps into {OUTPUTS}, {device}, "
        f"{arguments.threads} threads, PyTorch {torch.__version__}, each in its own process, "
        f"median of {arguments.repeats} after a warm-up. ×: ratio to the first. A step is "
        "forward and backward; memory is the process' peak, including the compiler.",
        "",
        "| formulation | forward s | × | step s | × | forward GB | step GB |",
        "|---|" + "---:|" * 6,
    ]
    for name, row in rows.items():
        cells = [
            text
            for column in ("forward_s", "step_s")
            for text in (f"{row[column]:.2f}", f"{row[column] / base[column]:.2f}")
        ]
        cells += [f"{row['forward_gb']:.2f}", f"{row['step_gb']:.2f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
