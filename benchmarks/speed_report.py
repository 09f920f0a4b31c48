"""Tables and picture of `benchmarks.speed`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from benchmarks.networks import BASELINE, NETWORKS

MODES = ("eager", "compiled")
Row = dict[str, Any]


def _baseline(rows: Sequence[Row]) -> Row:
    return next((row for row in rows if row["network"] == BASELINE and "error" not in row), {})


def markdown(report: Row) -> str:
    """The report as a page."""
    setup, rows = report["setup"], report["rows"]
    base = _baseline(rows)
    size = "×".join(map(str, setup["patch"]))
    lines = [
        f"# Speed on {setup['device']}",
        "",
        f"`{setup['command']}`: patch {size}, batch {setup['batch']}, fp32, PyTorch "
        f"{setup['torch']}, each network in its own process, median of {setup['repeats']} after a "
        f"warm-up. ×: ratio to {BASELINE} in the same run, the figure to compare. A step is "
        f"forward and backward under deep supervision where the network has it. Memory is the "
        f"process' peak, including Python and PyTorch, and the compiler for compiled networks.",
        "",
    ]
    if "CPU" in setup["device"]:
        lines += ["No GPU was available; `--device cuda` measures one.", ""]
    lines += _table(rows, base, prefix="")
    if any("amp_step_s" in row for row in rows):
        lines += ["", "## Mixed precision (fp16 autocast)", "", *_table(rows, base, prefix="amp_")]
    if report["scaling"]:
        lines += [
            "",
            "## Cost of S2CA-Net against patch and batch",
            "",
            "| patch | batch | forward s | step s | forward GB | step GB "
            "| forward, s a million voxels | step, s a million voxels |",
            "|" + "---|" * 8,
        ]
        for row in report["scaling"]:
            patch = "×".join(map(str, row["patch"]))
            if "error" in row:
                lines.append(f"| {patch} | {row['batch']} | {row['error']} |" + " |" * 5)
                continue
            voxels = row["batch"] * row["patch"][0] * row["patch"][1] * row["patch"][2] / 1e6
            lines.append(
                f"| {patch} | {row['batch']} | {row['forward_s']:.2f} | {row['step_s']:.2f} "
                f"| {row['forward_gb']:.2f} | {row['step_gb']:.2f} "
                f"| {row['forward_s'] / voxels:.2f} | {row['step_s'] / voxels:.2f} |"
            )
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Row], base: Row, *, prefix: str) -> list[str]:
    columns = [f"{prefix}{c}" for c in ("forward_s", "step_s", "forward_gb", "step_gb")]
    lines = [
        "| network | | forward s | × | step s | × | forward GB | × | step GB | × | M parameters "
        "| GFLOP |",
        "|" + "---|" * 12,
    ]
    order = list(NETWORKS)
    for row in sorted(
        rows, key=lambda row: (order.index(row["network"]), MODES.index(row["mode"]))
    ):
        if "error" in row:
            lines.append(f"| {row['network']} | {row['mode']} | {row['error']} |" + " |" * 9)
            continue
        cells = []
        for column in columns:
            cells.append(f"{row[column]:.2f}")
            cells.append(f"{row[column] / base[column]:.2f}" if base else "")
        gflop = f"{row['gflop']:.0f}" if "gflop" in row else ""
        cells += [f"{row['parameters'] / 1e6:.2f}", gflop]
        lines.append(f"| {row['network']} | {row['mode']} | " + " | ".join(cells) + " |")
    return lines


def plot(rows: Sequence[Row], path: Path) -> None:
    """Time of a step against memory."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for row in rows:
        if "error" in row:
            continue
        ours = row["network"].startswith("S2CA-Net")
        marker = "^" if row["mode"] == "compiled" else "o"
        axes.scatter(row["step_s"], row["step_gb"], color="C3" if ours else "C0", marker=marker)
        label = row["network"] + (", compiled" if row["mode"] == "compiled" else "")
        axes.annotate(
            label,
            (row["step_s"], row["step_gb"]),
            xytext=(5, 3),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set(xlabel="training step, s", ylabel="peak memory, GB", xscale="log", yscale="log")
    axes.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=120)
    plt.close(figure)
