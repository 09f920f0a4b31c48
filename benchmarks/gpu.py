"""All that there is to know of a card, in one command and under ten minutes.

`python -m benchmarks.gpu` holds S2CA-Net on the card to the golden outputs and to a processor's
gradients, then measures training steps and sliding windows of S2CA-Net and nnU-Net, eager and
compiled, with and without the Triton kernels. It writes `results/speed/cuda.md` and `.json`, whole
after every row. Each row has a process and a time limit of its own, so that one that fails costs
no other.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.gpu_report import markdown
from benchmarks.networks import BASELINE
from benchmarks.speed import RESULTS

Row = dict[str, Any]

NETWORKS = (BASELINE, "S2CA-Net", "S2CA-Net-S", "S2CA-Net-L", "nnU-Net ResEnc M")
WITH_TRITON = "S2CA-Net"
MODES = ("eager", "compiled")
BUDGET_S = 570.0
# What one row may take of it at most. The first compilation of a network takes minutes.
SHARES = {"checks": 0.2, "eager": 0.1, "compiled": 0.25}
LEAST_S = 10.0


class Run(NamedTuple):
    """One process: the checks or a network."""

    network: str
    mode: str
    triton: bool


def main(argv: Sequence[str] | None = None) -> None:
    """Check and measure what the command line asks for, and write the report."""
    arguments = _parse_arguments(argv)
    start = time.monotonic()
    report: Row = {"setup": _setup(arguments), "checks": [], "rows": []}
    arguments.output.mkdir(parents=True, exist_ok=True)
    for run in _plan(arguments):
        left = arguments.budget - (time.monotonic() - start)
        limit = min(left, SHARES[run.mode] * arguments.budget)
        label = {"network": run.network, "mode": run.mode, "triton": run.triton}
        if limit < LEAST_S:
            found: Row = {"error": "not run: the time is up"}
        else:
            print(*(run.network, run.mode, "Triton" * run.triton), "…", flush=True)
            # compilation starts cold
            with tempfile.TemporaryDirectory() as cache:
                found = run_limited(
                    _command(run, arguments),
                    limit,
                    S2CA_TRITON=str(int(run.triton)),
                    TORCHINDUCTOR_CACHE_DIR=cache,
                )
        if run.mode == "checks":
            report["checks"] = found.pop("checks", [])
            if "error" in found:
                failed = {"name": "all further checks", "error": found["error"], "passed": False}
                report["checks"].append(failed)
        else:
            report["rows"].append(label | found)
        report["setup"]["seconds"] = time.monotonic() - start
        _write(report, arguments)
    print((arguments.output / f"{arguments.device}.md").read_text())
    if not all(check["passed"] for check in report["checks"]):
        raise SystemExit("a check failed: the times are of a network that computes something else")


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("-o", dest="output", type=Path, help="folder; results/speed on a card")
    parser.add_argument("--patch", type=int, nargs=3, default=(128, 128, 128))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--repeats", type=int, default=10, help="timed steps after the warm-up")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds for everything")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error(
            "PyTorch finds no CUDA device; `--device cpu --patch 16 16 16 -o FOLDER` tries the "
            "program on a processor"
        )
    if arguments.output is None:
        if arguments.device == "cpu":
            parser.error("-o is needed with --device cpu: results/speed is for cards")
        arguments.output = RESULTS
    return arguments


def _plan(arguments: argparse.Namespace) -> list[Run]:
    """What to run, the most important first: eager before compiled, which takes longest."""
    runs = [Run("correctness", "checks", False)]
    for mode in MODES:
        for network in arguments.networks if mode in arguments.modes else ():
            runs.append(Run(network, mode, False))
            if network == WITH_TRITON and arguments.device == "cuda":
                runs.append(Run(network, mode, True))
    return runs


def _command(run: Run, arguments: argparse.Namespace) -> list[str]:
    module = "benchmarks.gpu_checks" if run.mode == "checks" else "benchmarks.gpu_step"
    names = [] if run.mode == "checks" else [run.network, run.mode]
    return [
        *(sys.executable, "-m", module, *names, "--device", arguments.device),
        *("--patch", *map(str, arguments.patch), "--batch", str(arguments.batch)),
        *("--repeats", str(arguments.repeats)),
    ]


def run_limited(command: Sequence[str], limit_s: float, **environment: str) -> Row:
    """Run a program that prints a JSON object a line, and join them; lists grow.

    Args:
        command: the program.
        limit_s: seconds after which it and its children are killed; what it has printed counts.
        environment: variables to set for it.

    Returns:
        The objects joined, and under "error" what went wrong, if anything.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        # compilers start processes, which have to end with it
        start_new_session=True,
    )
    error = None
    try:
        out, log = process.communicate(timeout=limit_s)
        if process.returncode:
            error = "failed: " + (log.strip().splitlines() or ["killed"])[-1]
            print(log, file=sys.stderr)
    except subprocess.TimeoutExpired:
        error = f"stopped after {limit_s:.0f} s"
        os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    found = _join(out.splitlines())
    return found if error is None else found | {"error": error}


def _join(lines: Sequence[str]) -> Row:
    found: Row = {}
    for line in lines:
        try:
            item = json.loads(line)
        except ValueError:  # other output, or a line cut off
            continue
        if not isinstance(item, dict):
            continue
        for key, value in item.items():
            found[key] = found.get(key, []) + value if isinstance(value, list) else value
    return found


def _setup(arguments: argparse.Namespace) -> Row:
    cuda = arguments.device == "cuda"
    setup: Row = {
        "device": torch.cuda.get_device_name() if cuda else "a processor",
        "torch": torch.__version__,
        "patch": list(arguments.patch),
        "batch": arguments.batch,
        "repeats": arguments.repeats,
    }
    if cuda:
        properties = torch.cuda.get_device_properties(0)
        setup |= {
            "capability": f"{properties.major}.{properties.minor}",
            "memory_gb": properties.total_memory / 1e9,
            "cuda": torch.version.cuda,
        }
    return setup


def _write(report: Row, arguments: argparse.Namespace) -> None:
    target = arguments.output / arguments.device
    for suffix, text in {
        ".json": json.dumps(report, indent=1) + "\n",
        ".md": markdown(report),
    }.items():
        unfinished = target.with_suffix(f"{suffix}.unfinished")
        unfinished.write_text(text)
        unfinished.replace(target.with_suffix(suffix))


if __name__ == "__main__":
    main()
