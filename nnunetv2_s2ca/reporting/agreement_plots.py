"""Plots of how two numbers of a case agree: volumes, and the scores of two runs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from nnunetv2_s2ca.evaluation.metrics_table import MetricsTable
from nnunetv2_s2ca.reporting.plots import Figure, jitter
from nnunetv2_s2ca.reporting.scoring import cases_of, column, regions_of
from nnunetv2_s2ca.reporting.svg import Plot, legend, named_axis, numeric_axis

LIMITS = 1.96  # standard deviations between which 95 % of normal differences lie


def volume_figure(table: MetricsTable, links: Mapping[str, str]) -> Figure:
    """Predicted against true volumes."""
    points = _volumes(table)
    both = [value for _, _, true, predicted in points for value in (true, predicted)]
    axes = [
        numeric_axis(label, [0.0, *both])
        for label in ("true volume in ml", "predicted volume in ml")
    ]
    plot = Plot(axes[0], axes[1], "", height=400)
    plot.line([(axes[0].low, axes[0].low), (axes[0].high, axes[0].high)], 0, kind="rule")
    regions = regions_of(table)
    for case, region, true, predicted in points:
        data = {
            "case": case,
            "region": region,
            "reference-ml": true,
            "prediction-ml": predicted,
            "href": links.get(case),
        }
        title = f"{case}, {region}: true {true:.1f} ml, predicted {predicted:.1f} ml"
        plot.dot(true, predicted, regions.index(region), title=title, data=data)
    plot.alt = f"Predicted against true volumes of {len(cases_of(table))} cases in ml."
    return Figure(
        "Predicted against true volumes",
        plot.svg(),
        "On the line, predicted and true volume are equal; marks above it are predicted too large, "
        "below it too small.",
        legend(regions),
    )


def bland_altman_figure(
    table: MetricsTable, region: str, links: Mapping[str, str]
) -> Figure | None:
    """Differences of volumes against their means; None with fewer than two cases."""
    points = [
        (case, true, predicted) for case, name, true, predicted in _volumes(table) if name == region
    ]
    if len(points) < 2:
        return None
    differences = np.array([predicted - true for _, true, predicted in points])
    bias, spread = float(differences.mean()), float(differences.std(ddof=1))
    limits = (bias - LIMITS * spread, bias + LIMITS * spread)
    means = [(true + predicted) / 2 for _, true, predicted in points]
    plot = Plot(
        numeric_axis("mean of both volumes in ml", [0.0, *means]),
        numeric_axis("predicted − true in ml", [*differences, *limits, 0.0]),
        f"Bland–Altman plot of {region}, n = {len(points)}: bias {bias:.2f} ml, limits of "
        f"agreement {limits[0]:.2f} and {limits[1]:.2f} ml.",
    )
    plot.rule(0.0, kind="axis")
    for value, name in ((bias, "bias"), (limits[0], "−1.96 SD"), (limits[1], "+1.96 SD")):
        plot.rule(value, kind="rule" if name == "bias" else "rule dashed")
        plot.text(plot.x.high, value, f"{name} {value:.2f}")
    for (case, true, predicted), mean, difference in zip(points, means, differences, strict=True):
        data = {
            "case": case,
            "region": region,
            "difference-ml": float(difference),
            "href": links.get(case),
        }
        title = f"{case}: true {true:.1f} ml, predicted {predicted:.1f} ml"
        plot.dot(mean, float(difference), regions_of(table).index(region), title=title, data=data)
    return Figure(
        f"Bland–Altman, {region}",
        plot.svg(),
        "A mark is a case; the solid line is the mean error of the volume, and 95 % of errors are "
        "expected between the dashed lines if they are normally distributed.",
    )


def difference_figure(
    first: MetricsTable, second: MetricsTable, names: tuple[str, str], links: Mapping[str, str]
) -> Figure:
    """Paired differences in Dice of two runs."""
    regions = [region for region in regions_of(first) if region in regions_of(second)]
    pairs = {
        region: {
            case: column(second, region, "dice")[case] - value
            for case, value in column(first, region, "dice").items()
            if case in column(second, region, "dice")
        }
        for region in regions
    }
    values = [value for found in pairs.values() for value in found.values()]
    plot = Plot(
        named_axis("region", regions),
        numeric_axis("difference in Dice", values, within=(-0.05, 0.05)),
        f"Difference in Dice of every case, {names[1]} minus {names[0]}.",
    )
    plot.rule(0.0)
    for place, (region, found) in enumerate(pairs.items()):
        known = {case: value for case, value in found.items() if not math.isnan(value)}
        if len(known) > 2:
            plot.box(
                place, np.percentile(list(known.values()), (25, 50, 75)).tolist(), place, half=0.3
            )
        for case, value in known.items():
            data = {"case": case, "region": region, "difference": value, "href": links.get(case)}
            plot.dot(
                place + jitter(case) * 0.2, value, place, title=f"{case}: {value:+.4f}", data=data
            )
    return Figure(
        f"Paired differences in Dice: {names[1]} minus {names[0]}",
        plot.svg(),
        f"Each mark is a case: above the line {names[1]} is better, below it {names[0]}.",
    )


def _volumes(table: MetricsTable) -> list[tuple[str, str, float, float]]:
    """Case, region, true and predicted volume in ml."""
    return [
        (case, region, values["reference_ml"], values["prediction_ml"])
        for (case, region), values in table.values.items()
    ]
