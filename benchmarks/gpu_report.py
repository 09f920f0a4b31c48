"""The page of `benchmarks.gpu`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.networks import BASELINE

Row = dict[str, Any]

STEPS_AN_EPOCH, EPOCHS_A_FOLD = 250, 1000  # nnU-Net's


def markdown(report: Row) -> str:
    """The report as a page."""
    setup = report["setup"]
    size = "×".join(map(str, setup["patch"]))
    card = (
        f" (compute capability {setup['capability']}, {setup['memory_gb']:.0f} GB, CUDA "
        f"{setup['cuda']})"
        if "capability" in setup
        else ""
    )
    precision = "fp16 autocast" if card else "fp32"
    lines = [
        f"# Speed on {setup['device']}",
        "",
        f"`python -m benchmarks.gpu` on {setup['device']}{card}: PyTorch {setup['torch']}, patch "
        f"{size}, batch {setup['batch']}, {precision}, median of {setup['repeats']} after a "
        f"warm-up, each row in its own process, {setup.get('seconds', 0):.0f} s in all.",
        "",
        "## Is it right?",
        "",
        "| check | error | at most | |",
        "|---|---:|---:|---|",
        *(_check(check) for check in report["checks"]),
        "",
        "## How fast is it?",
        "",
        "A step is nnU-Net's: forward and backward pass with its loss under deep supervision, "
        "gradients scaled and clipped, optimizer. An epoch has "
        f"{STEPS_AN_EPOCH} steps, a fold {EPOCHS_A_FOLD} epochs; waiting for data and validation "
        "come on top. A window is a forward pass at batch 1 without mirroring. ×: ratio to "
        f"{BASELINE} in the same mode. Memory is what PyTorch's allocator held at most, on a "
        "processor the whole process' peak. The first step compiles, if anything does.",
        "",
        "| network | mode | step s | × | epoch h | fold h | peak GB | × | window ms | × "
        "| first step s | M parameters |",
        "|---|---|" + "---:|" * 10,
    ]
    rows = report["rows"]
    bases = {row["mode"]: row for row in rows if row["network"] == BASELINE}
    lines += [_row(row, bases.get(row["mode"], {})) for row in rows]
    notes = [row for row in rows if "error" in row]
    if notes:
        lines += ["", "Not complete:", ""]
        lines += [f"- {_name(row)}, {row['mode']}: {row['error']}" for row in notes]
    return "\n".join(lines) + "\n"


def _check(check: Row) -> str:
    if "error" in check:
        return f"| {check['name']} | {check['error']} | | failed |"
    verdict = "passed" if check["passed"] else "**failed**"
    return f"| {check['name']} | {check['found']:.1e} | {check['bound']:.0e} | {verdict} |"


def _name(row: Row) -> str:
    return row["network"] + (" with Triton kernels" if row["triton"] else "")


def _row(row: Row, base: Row) -> str:
    step = row.get("step_s")
    epoch = None if step is None else step * STEPS_AN_EPOCH / 3600
    fold = None if epoch is None else epoch * EPOCHS_A_FOLD
    window = row.get("window_s")
    parameters = row.get("parameters")
    cells = [
        _name(row),
        row["mode"],
        _number(step, 3),
        _ratio("step_s", row, base),
        _number(epoch, 3),
        _number(fold, 1),
        _number(row.get("step_gb"), 2),
        _ratio("step_gb", row, base),
        _number(None if window is None else 1000 * window, 1),
        _ratio("window_s", row, base),
        _number(row.get("first_step_s"), 1),
        _number(None if parameters is None else parameters / 1e6, 2),
    ]
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _ratio(column: str, row: Row, base: Row) -> str:
    have: Sequence[Row] = (row, base)
    return f"{row[column] / base[column]:.2f}" if all(column in r for r in have) else ""
