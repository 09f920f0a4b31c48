"""The plots of a report, each with a sentence on how to read it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from nnunetv2_s2ca.evaluation.metrics_table import MetricsTable
from nnunetv2_s2ca.evaluation.statistics import Summary
from nnunetv2_s2ca.reporting.learning import Curve
from nnunetv2_s2ca.reporting.scoring import cases_of, column, penalty_of, regions_of
from nnunetv2_s2ca.reporting.svg import Plot, legend, named_axis, numeric_axis

# metric → axis label, and the range that is always shown
SHOWN_METRICS: Mapping[str, tuple[str, tuple[float, float]]] = {
    "dice": ("Dice", (0.0, 1.0)),
    "hd95_mm": ("HD95 in mm", (0.0, 10.0)),
    "lesion_dice": ("lesion-wise Dice", (0.0, 1.0)),
}
NO_FOLD = "no fold"
NO_KEY = Markup()


@dataclass(frozen=True)
class Figure:
    """A plot with its caption.

    Attributes:
        title: heading.
        svg: the plot.
        reading: how to read it, one sentence.
        key: legend.
    """

    title: str
    svg: Markup
    reading: str
    key: Markup = NO_KEY


def interval_figure(summaries: Mapping[str, Mapping[str, Mapping[str, Summary]]]) -> Figure:
    """Mean Dice with its interval: run → region → metric → summary."""
    regions = list(dict.fromkeys(region for found in summaries.values() for region in found))
    axis = named_axis("region", regions)
    plot = Plot(axis, numeric_axis("mean Dice", [], within=(0.0, 1.0)), "")
    spoken = []
    for series, (run, found) in enumerate(summaries.items()):
        shift = _shift(series, len(summaries), 0.14)
        for region, metrics in found.items():
            dice, place = metrics["dice"], regions.index(region) + shift
            plot.line([(place, dice.ci_low), (place, dice.ci_high)], series, kind="interval")
            if not math.isnan(dice.mean):
                title = f"{run}, {region}: {dice.mean:.4f}, n = {dice.cases}"
                data = {"run": run, "region": region, "metric": "dice", "value": dice.mean}
                plot.dot(place, dice.mean, series, title=title, data=data)
                spoken.append(title)
    plot.alt = f"Mean Dice. {'; '.join(spoken)}."
    return Figure(
        "Mean Dice with 95 % intervals",
        plot.svg(),
        "A mark is the mean over cases, its line the 95 % bootstrap interval of that mean: where "
        "lines overlap widely, the data do not tell the means apart.",
        legend(list(summaries)) if len(summaries) > 1 else NO_KEY,
    )


def strip_figure(
    table: MetricsTable, metric: str, *, folds: Mapping[str, int | None], links: Mapping[str, str]
) -> Figure:
    """A metric of every case, by region and fold.

    Args:
        table: the scores.
        metric: one of `SHOWN_METRICS`.
        folds: case → its fold.
        links: case → id of its picture on the page.
    """
    label, within = SHOWN_METRICS[metric]
    regions, penalty = regions_of(table), penalty_of(table)
    groups = _fold_names(cases_of(table), folds)
    columns = {region: column(table, region, metric) for region in regions}
    values = [_finite(value, penalty) for found in columns.values() for value in found.values()]
    plot = Plot(named_axis("region", regions), numeric_axis(label, values, within=within), "")
    spoken = []
    for place, (region, found) in enumerate(columns.items()):
        for series, group in enumerate(groups):
            middle = place + _shift(series, len(groups), 0.8 / max(len(groups), 1))
            inside = {
                case: value
                for case, value in found.items()
                if _fold_name(folds.get(case)) == group and not math.isnan(value)
            }
            shown = [_finite(value, penalty) for value in inside.values()]
            if len(shown) > 2:
                quartiles = np.percentile(shown, (25, 50, 75)).tolist()
                plot.box(middle, quartiles, series, half=0.36 / max(len(groups), 1))
            for case, value in inside.items():
                across = middle + jitter(case) * 0.22 / max(len(groups), 1)
                data = {
                    "case": case,
                    "region": region,
                    "metric": metric,
                    "value": value,
                    "href": links.get(case),
                }
                title = f"{case}, {region}: {value:.4g}"
                plot.dot(across, _finite(value, penalty), series, title=title, data=data)
        known = [_finite(value, penalty) for value in found.values() if not math.isnan(value)]
        if known:
            spoken.append(f"{region} median {np.median(known):.4g} of {len(known)} cases")
    plot.alt = f"{label} of every case. {'; '.join(spoken)}."
    reading = (
        "Each mark is a case, each box the middle half of the cases of a fold with its median: a "
        "fold whose box lies apart, or marks far from their box, deserve a look."
    )
    if metric == "hd95_mm":
        reading += f" Lower is better; an infinite distance is drawn at {penalty:g} mm."
    key = legend(groups) if groups != [NO_FOLD] else NO_KEY
    return Figure(label[0].upper() + label[1:], plot.svg(), reading, key)


def learning_figures(curves: Mapping[int, Curve]) -> list[Figure]:
    """Losses and pseudo Dice of all folds over the epochs."""
    last = max(max(curve.train_loss) for curve in curves.values())
    across = numeric_axis("epoch", [0, max(last, 1)])
    losses = [
        value
        for curve in curves.values()
        for found in (curve.train_loss, curve.val_loss)
        for value in found.values()
    ]
    loss = Plot(across, numeric_axis("loss", losses), "")
    dice = Plot(across, numeric_axis("pseudo Dice", [], within=(0.0, 1.0)), "")
    spoken = []
    for series, (fold, curve) in enumerate(curves.items()):
        loss.line(sorted(curve.train_loss.items()), series)
        loss.line(sorted(curve.val_loss.items()), series, kind="line dashed")
        dice.line(sorted(curve.dice.items()), series)
        end = max(curve.train_loss)
        spoken.append(
            f"fold {fold} {len(curve.train_loss)} epochs, last loss {curve.train_loss[end]:.3g}"
        )
    loss.alt = f"Losses over epochs. {'; '.join(spoken)}."
    dice.alt = "Pseudo Dice over epochs. " + "; ".join(
        f"fold {fold} ends at {list(curve.dice.values())[-1]:.3g}"
        for fold, curve in curves.items()
        if curve.dice
    )
    key = legend([f"fold {fold}" for fold in curves], lines=True)
    return [
        Figure(
            "Loss",
            loss.svg(),
            "Solid lines are nnU-Net's training loss, dashed lines its validation loss, lower is "
            "better: solid lines that fall while dashed ones rise mean overfitting.",
            key,
        ),
        Figure(
            "Pseudo Dice",
            dice.svg(),
            "nnU-Net's Dice on random validation patches, mean over regions: it shows whether "
            "training has settled, and is not the Dice of whole cases.",
            key,
        ),
    ]


def uncertainty_figure(
    uncertainty: Mapping[str, float], dice: Mapping[str, float], links: Mapping[str, str]
) -> Figure:
    """Mean Dice against the uncertainty of each case."""
    cases = [case for case in uncertainty if not math.isnan(dice.get(case, math.nan))]
    plot = Plot(
        numeric_axis("uncertainty", [uncertainty[case] for case in cases]),
        numeric_axis("mean Dice", [], within=(0.0, 1.0)),
        f"Mean Dice against uncertainty of {len(cases)} cases.",
    )
    for case in cases:
        data = {
            "case": case,
            "uncertainty": uncertainty[case],
            "dice": dice[case],
            "href": links.get(case),
        }
        title = f"{case}: uncertainty {uncertainty[case]:.4g}, Dice {dice[case]:.4f}"
        plot.dot(uncertainty[case], dice[case], 0, title=title, data=data)
    return Figure(
        "Uncertainty against Dice",
        plot.svg(),
        "Marks that fall from left to right mean that the model knows which cases it does badly; a "
        "cloud without direction means that its uncertainty does not help to find them.",
    )


def _fold_names(cases: Sequence[str], folds: Mapping[str, int | None]) -> list[str]:
    found = {folds.get(case) for case in cases}
    return [_fold_name(fold) for fold in sorted(found, key=lambda fold: (fold is None, fold or 0))]


def _fold_name(fold: int | None) -> str:
    return NO_FOLD if fold is None else f"fold {fold}"


def _finite(value: float, penalty: float) -> float:
    return penalty if math.isinf(value) else value


def _shift(number: int, count: int, step: float) -> float:
    return (number - (count - 1) / 2) * step


def jitter(case: str) -> float:
    """A place between -1 and 1 that depends on the name alone, so that a page can be made again."""
    return zlib.crc32(case.encode("utf-8", errors="surrogateescape")) / 2**31 - 1
