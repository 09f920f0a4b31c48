"""A training step at small patches on one thread, beside nnU-Net's default network.

`python -m benchmarks.small_patches` writes `results/speed/small_patches.md`. The networks take
turns in one process, so the machine's load affects all alike. A step is forward, backward,
gradient clipping and Adam.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from benchmarks.networks import BASELINE, INPUT_CHANNELS, NETWORKS
from benchmarks.speed import RESULTS

PATCHES = ((32, 32, 32), (40, 48, 40), (48, 48, 48))
NAMES = (BASELINE, "S2CA-Net", "S2CA-Net-S")
BATCH = 2
MAX_NORM = 12  # as nnU-Net clips


def main() -> None:
    """Measure every patch, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="timed steps after the warm-up")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# A training step at small patches",
        "",
        f"`python -m benchmarks.small_patches`: batch {BATCH}, fp32, one CPU thread, PyTorch "
        f"{torch.__version__}; processor seconds of forward, backward, clipping and Adam, all "
        f"networks in turns in one process, median of {arguments.repeats} after a warm-up. "
        f"{BASELINE} as nnU-Net plans it for the patch.",
        "",
        "| patch | " + " | ".join(f"{name} s | ×" for name in NAMES) + " |",
        "|---|" + "---:|" * 2 * len(NAMES),
    ]
    for patch in PATCHES:
        seconds = _measure(patch, arguments.repeats)
        base = seconds[BASELINE]
        cells = [f"{seconds[name]:.2f} | {seconds[name] / base:.2f}" for name in NAMES]
        lines.append(f"| {'×'.join(map(str, patch))} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "small_patches.md").write_text("\n".join(lines) + "\n")


def _measure(patch: Sequence[int], repeats: int) -> dict[str, float]:
    """Processor seconds of a step, by network."""
    steps = {name: _make_step(name, patch) for name in NAMES}
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    for _ in range(1 + repeats):
        for name, step in steps.items():
            start = time.process_time()
            step()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def _make_step(name: str, patch: Sequence[int]) -> Callable[[], None]:
    torch.manual_seed(0)
    network = NETWORKS[name](patch).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, weight_decay=1e-5, fused=True)
    x = torch.randn(BATCH, INPUT_CHANNELS, *patch)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        sum(output.square().mean() for output in network(x)).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_NORM)
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
