"""Tables of results as plain text."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2_s2ca.core.files import write_text
from nnunetv2_s2ca.evaluation.rules import Rules
from nnunetv2_s2ca.evaluation.statistics import MOST_CASES_OF_A_RANGE, Comparison, Summary

if TYPE_CHECKING:
    from nnunetv2_s2ca.postprocessing.fitting import Fitted

# heading, metric, decimal places
COLUMNS = (
    ("HD95 mm", "hd95_mm", 2),
    ("NSD", "nsd", 4),
    ("sens", "sensitivity", 4),
    ("spec", "specificity", 4),
    ("prec", "precision", 4),
    ("ref ml", "reference_ml", 1),
    ("pred ml", "prediction_ml", 1),
    ("lesion Dice", "lesion_dice", 4),
    ("lesion HD95", "lesion_hd95_mm", 2),
)


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with all but the first column right-aligned, and a line below the head."""
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (head, *rows)
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def number(value: float, digits: int) -> str:
    """`value` with `digits` decimal places; a dash for NaN."""
    if math.isnan(value):
        return "–"
    return f"{round(value, digits) + 0.0:.{digits}f}"  # no minus sign for what rounds to 0


def evaluation_table(
    summaries: Mapping[str, Mapping[str, Summary]], *, rules: Rules, cases: int
) -> str:
    """The means of an evaluation, one row per region, below a description of the rules.

    If the rules leave cases out of a region's Dice, a column gives the number of cases.
    """
    numbers = {region: metrics["dice"].cases for region, metrics in summaries.items()}
    counted = any(count != cases for count in numbers.values())
    head = [
        "region",
        *(["cases"] if counted else []),
        *("Dice", "95 % interval", "median"),
        *(column[0] for column in COLUMNS),
    ]
    rows = []
    for region, metrics in summaries.items():
        dice = metrics["dice"]
        rows.append(
            [
                region,
                *([str(dice.cases)] if counted else []),
                number(dice.mean, 4),
                f"{number(dice.ci_low, 4)}–{number(dice.ci_high, 4)}",
                number(dice.median, 4),
                *(number(metrics[name].mean, digits) for _, name, digits in COLUMNS),
            ]
        )
    if len(rows) > 1:
        means = [
            number(_mean([metrics[name].mean for metrics in summaries.values()]), digits)
            for _, name, digits in COLUMNS
        ]
        dice_mean = number(_mean([metrics["dice"].mean for metrics in summaries.values()]), 4)
        rows.append(["mean", *([""] if counted else []), dice_mean, "", "", *means])
    what = "1 case" if cases == 1 else f"{cases} cases"
    return "\n".join(
        [
            f"{what}. {rules.describe()}",
            *_about_few_cases(numbers.values()),
            "",
            text_table(head, rows),
        ]
    )


def comparison_table(
    comparisons: Mapping[str, Mapping[str, Comparison]], *, first: str, second: str, rules: str
) -> str:
    """Paired differences, a row per region and metric."""
    head = [
        "region",
        "metric",
        "cases",
        "left out",
        "A",
        "B",
        "B - A",
        "95 % interval",
        "p",
        "B wins",
        "losses",
        "ties",
    ]
    rows = [
        [
            region,
            metric,
            str(found.cases),
            str(found.left_out),
            number(found.mean_first, 4),
            number(found.mean_second, 4),
            number(found.difference, 4),
            f"{number(found.ci_low, 4)} to {number(found.ci_high, 4)}",
            number(found.p_value, 4),
            str(found.wins),
            str(found.losses),
            str(found.ties),
        ]
        for region, metrics in comparisons.items()
        for metric, found in metrics.items()
    ]
    lines = [
        f"A: {first}",
        f"B: {second}",
        f"Rules {rules}. Wilcoxon signed-rank test, two-sided, p not corrected for the number of "
        "rows; intervals by bootstrap over cases.",
    ]
    if any(found.left_out for metrics in comparisons.values() for found in metrics.values()):
        lines.append(
            "Means, intervals and p leave out cases where a run has no value because it correctly "
            "left the region empty. If the other run has a false positive there, the case still "
            "counts as a win or loss."
        )
    lines += _about_few_cases(
        found.cases for metrics in comparisons.values() for found in metrics.values()
    )
    return "\n".join([*lines, "", text_table(head, rows)])


def fit_table(fitted: Fitted) -> str:
    """The rules chosen by a fit of the post-processing, and the scores before and after."""
    rules = fitted.rules
    before, after = fitted.before.as_json(), fitted.after.as_json()
    rows = [
        [
            region,
            str(rules.smallest_component.get(region, "")),
            number(before[region]["dice"], 4),
            number(after[region]["dice"], 4),
            number(before[region]["hd95_mm"], 2),
            number(after[region]["hd95_mm"], 2),
        ]
        for region in before
    ]
    head = ["region", "N", "Dice before", "after", "HD95 mm before", "after"]
    return "\n".join(
        [
            "Components of fewer than N voxels are removed; ET of fewer than "
            f"{rules.smallest_enhancing} voxels in all is relabelled; holes are "
            f"{'' if rules.fill_holes else 'not '}filled.",
            "",
            text_table(head, rows),
        ]
    )


def fold_table(
    trainers: Mapping[str, Mapping[int, Sequence[float]]], regions: Sequence[str]
) -> str:
    """nnU-Net's validation Dice of each fold, and the mean over folds, for each trainer.

    Args:
        trainers: For each trainer and fold, the Dice of each region, then their mean.
        regions: Names of the regions.
    """
    rows = []
    for trainer, folds in trainers.items():
        for fold, values in folds.items():
            rows.append([trainer, str(fold), *(number(value, 4) for value in values)])
        if len(folds) > 1:
            columns = zip(*folds.values(), strict=True)
            rows.append([trainer, "mean", *(number(_mean(column), 4) for column in columns)])
    if not rows:
        return "No fold has been validated yet."
    return "\n".join(
        [
            "Validation Dice by nnU-Net (without cases where a region is empty in both):",
            "",
            text_table(["trainer", "fold", *regions, "mean"], rows),
        ]
    )


def write_comparison(path: Path, comparisons: Mapping[str, Mapping[str, Comparison]]) -> None:
    """Write the comparisons as CSV, one row per region and metric."""
    text = io.StringIO()
    rows = [
        {"region": region, "metric": metric, **vars(found)}
        for region, metrics in comparisons.items()
        for metric, found in metrics.items()
    ]
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _about_few_cases(counts: Iterable[int]) -> list[str]:
    """A note on intervals if some have so few cases that they equal the range."""
    if any(2 <= count <= MOST_CASES_OF_A_RANGE for count in counts):
        return ["The interval of two or three cases is just their range."]
    return []


def _mean(values: Sequence[float]) -> float:
    numbers = [value for value in values if not math.isnan(value)]
    return statistics.fmean(numbers) if numbers else math.nan
