"""Learning curves of rows as a picture: over steps and over processor seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.accuracy.results import RowResult


def draw_curves(rows: Mapping[str, RowResult], output: Path) -> bool:
    """Draw pseudo-Dice over steps and over seconds; False if no row is recorded.

    Args:
        rows: Rows by label.
        output: PNG file to write.
    """
    recorded = {label: row for label, row in rows.items() if row.records}
    if not recorded:
        return False
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a screen
    by_steps, by_seconds = figure.subplots(1, 2, sharey=True)
    for number, (label, row) in enumerate(recorded.items()):
        points = row.curve()
        dice = [point.dice for point in points]
        style = {"color": f"C{number}", "marker": "o", "markersize": 3}
        seeds = len(row.records)
        label = f"{label} ({seeds} {'seed' if seeds == 1 else 'seeds'})"
        by_steps.plot([point.step for point in points], dice, label=label, **style)
        by_seconds.plot([point.seconds for point in points], dice, **style)
    by_steps.set(xlabel="steps", ylabel="mean Dice, validation patches")
    by_seconds.set(xlabel="processor seconds")
    for axis in (by_steps, by_seconds):
        axis.grid(alpha=0.3)
        axis.set_ylim(0, 1)
    figure.legend(loc="outside lower center", ncols=3, fontsize="small", frameon=False)
    figure.savefig(output, dpi=90)
    return True
