"""Compare time and memory of S2CA-Net and other networks, each in its own process.

`python -m benchmarks.speed` writes `results/speed/<device>.md`, `.json` and `.png`. Times depend on
the machine and its load; compare ratios to nnU-Net's default network within a run.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.networks import INPUT_CHANNELS, NETWORKS
from benchmarks.speed_report import MODES, Row, markdown, plot

RESULTS = Path(__file__).parents[1] / "results" / "speed"
GB = 1e9

# GB for a training step at 128³ on the CPU, for networks that need a lot
NEEDS_GB = {"SwinUNETR (48)": 16.0, "UNETR": 9.0, "S2CA-Net-L": 9.0}


def main() -> None:
    """Measure what the command line asks for, and write the report."""
    arguments = _parse_arguments()
    if arguments.measure:
        name, mode = arguments.measure
        print(json.dumps(_measure(name, mode, arguments)))
        return
    target = RESULTS / arguments.device
    RESULTS.mkdir(parents=True, exist_ok=True)
    runs = [
        {"name": name, "mode": mode}
        for mode in arguments.modes  # compiled runs last, since they take longest
        for name in arguments.networks
        if mode == "eager" or name.startswith("S2CA-Net")
    ]
    report: Row = {"setup": _setup(arguments), "rows": [], "scaling": []}
    # the report is complete after every row, since the larger networks take long
    for size, batch in arguments.scaling:
        row = _measure_in_process("S2CA-Net", "eager", arguments, patch=(size,) * 3, batch=batch)
        report["scaling"].append(row)
        _write(report, target)
    for run in runs:
        report["rows"].append(_measure_in_process(arguments=arguments, **run))
        _write(report, target)
    print(target.with_suffix(".md").read_text())


def _write(report: Row, target: Path) -> None:
    target.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    target.with_suffix(".md").write_text(markdown(report))
    plot(report["rows"], target.with_suffix(".png"))


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patch", type=int, nargs=3, default=(128, 128, 128))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--repeats", type=int, default=3, help="timed runs after the warm-up")
    parser.add_argument("--threads", type=int, default=psutil.cpu_count(logical=False))
    parser.add_argument("--no-scaling", dest="scaling", action="store_const", const=(),
                        default=((64, 1), (64, 2), (96, 1), (128, 1)))  # fmt: skip
    # the program calls itself with this, one process per row
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure_in_process(
    name: str,
    mode: str,
    arguments: argparse.Namespace,
    *,
    patch: Sequence[int] | None = None,
    batch: int | None = None,
) -> Row:
    patch, batch = patch or arguments.patch, batch or arguments.batch
    row: Row = {"network": name, "mode": mode, "patch": list(patch), "batch": batch}
    share = batch
    for size in patch:
        share *= size / 128
    needed = NEEDS_GB.get(name, 0) * share
    if arguments.device == "cpu" and needed * GB > psutil.virtual_memory().available:
        return row | {"error": f"not run: needs {needed:.0f} GB"}
    print(f"{name}, {mode}, {'×'.join(map(str, patch))}, batch {batch} …", flush=True)
    command = [
        *(sys.executable, "-m", "benchmarks.speed", "--measure", name, mode),
        *("--patch", *map(str, patch), "--batch", str(batch), "--device", arguments.device),
        *("--repeats", str(arguments.repeats), "--threads", str(arguments.threads)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return row | {"error": "failed: " + (done.stderr.strip().splitlines() or ["killed"])[-1]}
    return row | json.loads(done.stdout.splitlines()[-1])


def _measure(name: str, mode: str, arguments: argparse.Namespace) -> Row:
    """One network in this process: seconds, GB, parameters, GFLOP."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    network = NETWORKS[name](arguments.patch).to(device)
    x = torch.randn(arguments.batch, INPUT_CHANNELS, *arguments.patch, device=device)
    run: Callable[[Tensor], Any] = network
    if mode == "compiled":
        run = torch.compile(network, fullgraph=name.startswith("S2CA-Net"))
    row: Row = {"parameters": sum(p.numel() for p in network.parameters())}
    precisions: dict[str, AbstractContextManager] = {"": nullcontext()}
    if device.type == "cuda":
        precisions["amp_"] = torch.autocast("cuda", dtype=torch.float16)

    def forward() -> None:
        # as nnU-Net's predictor calls it
        with torch.inference_mode():
            run(x)

    def step() -> None:
        # any loss of all logits will do; this is the cheapest
        network.zero_grad(set_to_none=True)
        outputs = run(x)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        sum(output.square().mean() for output in outputs).backward()

    for prefix, precision in precisions.items():
        with precision:
            network.eval()
            _set_deep_supervision(network, False)
            row |= timed(f"{prefix}forward", forward, device, arguments.repeats)
            network.train()
            _set_deep_supervision(network, True)
            row |= timed(f"{prefix}step", step, device, arguments.repeats)
    if mode == "eager":
        network.eval()
        _set_deep_supervision(network, False)
        with FlopCounterMode(display=False) as counter:
            forward()
        row["gflop"] = counter.get_total_flops() / 1e9
    return row


def _set_deep_supervision(network: nn.Module, enabled: bool) -> None:
    if hasattr(network, "decoder") and hasattr(network.decoder, "deep_supervision"):
        network.decoder.deep_supervision = enabled


def timed(what: str, run: Callable[[], None], device: torch.device, repeats: int) -> Row:
    """Median seconds of `run` after a warm-up, processor seconds, and the peak memory in GB."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(3 if cuda else 1):
        run()
    seconds, processor = [], []
    for _ in range(repeats):
        if cuda:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            run()
            end.record()
            torch.cuda.synchronize()
            seconds.append(start.elapsed_time(end) / 1000)
        else:
            wall, busy = time.perf_counter(), time.process_time()
            run()
            seconds.append(time.perf_counter() - wall)
            processor.append(time.process_time() - busy)
    peak = (
        torch.cuda.max_memory_allocated()
        if cuda
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    row = {f"{what}_s": statistics.median(seconds), f"{what}_gb": peak / GB}
    if processor:
        row[f"{what}_processor_s"] = statistics.median(processor)
    return row


def _setup(arguments: argparse.Namespace) -> Row:
    cuda = arguments.device == "cuda"
    options = [] if list(arguments.patch) == [128] * 3 else ["--patch", *map(str, arguments.patch)]
    options += ["--device", arguments.device] if cuda else []
    if arguments.networks != list(NETWORKS):
        options += ["--networks", *map(shlex.quote, arguments.networks)]
    return {
        "command": " ".join(["python -m benchmarks.speed", *options]),
        "device": torch.cuda.get_device_name() if cuda else f"{arguments.threads} CPU threads",
        "torch": torch.__version__,
        "patch": list(arguments.patch),
        "batch": arguments.batch,
        "repeats": arguments.repeats,
    }


if __name__ == "__main__":
    main()
