"""Evaluation results as files: `metrics.csv`, a row per case and region, and `summary.json`."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import write_text
from nnunetv2_s2ca.evaluation.case import RegionMetrics
from nnunetv2_s2ca.evaluation.cohort import CohortResult
from nnunetv2_s2ca.evaluation.rules import RULES, Rules
from nnunetv2_s2ca.evaluation.statistics import Comparison, Summary, compare, summarise

METRICS_FILE = "metrics.csv"
SUMMARY_FILE = "summary.json"
# Where `s2ca evaluate` writes unless told, so that nnU-Net's own summary.json stays untouched
DEFAULT_FOLDER = "s2ca_evaluation"

METRICS = tuple(field.name for field in fields(RegionMetrics) if field.name != "region")
COMPARED = ("dice", "hd95_mm", "nsd", "lesion_dice", "lesion_hd95_mm")


@dataclass(frozen=True)
class MetricsTable:
    """What a `metrics.csv` holds.

    Attributes:
        path: The file.
        rules: Name of the rules that it was computed by.
        tolerance: NSD's tolerance in mm.
        values: For each pair of case and region, its metrics by name.
    """

    path: Path
    rules: str
    tolerance: float
    values: dict[tuple[str, str], dict[str, float]]


def region_names(result: CohortResult) -> list[str]:
    """The regions of a result, in their order."""
    return [row.region for row in next(iter(result.metrics.values()))]


def summarise_regions(result: CohortResult, rules: Rules) -> dict[str, dict[str, Summary]]:
    """For each region and metric, its summary over cases."""
    rows = [row for case in result.metrics.values() for row in case]
    return {
        region: {
            metric: summarise(
                [getattr(row, metric) for row in rows if row.region == region],
                infinity=rules.infinity_in_means,
            )
            for metric in METRICS
        }
        for region in region_names(result)
    }


def write_results(
    folder: Path, result: CohortResult, *, rules: Rules, reference: Path, prediction: Path
) -> None:
    """Write `metrics.csv` and `summary.json` into `folder`."""
    write_text(folder / METRICS_FILE, metrics_csv(result, rules))
    summary = {
        "rules": {
            "name": rules.name,
            "nsd_tolerance_mm": rules.tolerance,
            "description": rules.describe(),
        },
        "reference": str(reference),
        "prediction": str(prediction),
        "cases": len(result.metrics),
        "not_evaluated": result.troubles,
        "regions": {
            region: {metric: _without_nan(asdict(summary)) for metric, summary in metrics.items()}
            for region, metrics in summarise_regions(result, rules).items()
        },
    }
    write_text(folder / SUMMARY_FILE, json.dumps(summary, indent=2, allow_nan=False) + "\n")


def metrics_csv(result: CohortResult, rules: Rules) -> str:
    """Text of `metrics.csv`; a metric that is not a number is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "region", "rules", "nsd_tolerance_mm", *METRICS])
    for case, rows in result.metrics.items():
        for row in rows:
            cells = [getattr(row, metric) for metric in METRICS]
            writer.writerow(
                [
                    case,
                    row.region,
                    rules.name,
                    rules.tolerance,
                    *("" if math.isnan(cell) else cell for cell in cells),
                ]
            )
    return text.getvalue()


def read_metrics(path: Path) -> MetricsTable:
    """Read a `metrics.csv`, given as a file, as its folder, or as the folder of predictions.

    Raises:
        UserError: No such file, or not written by `s2ca evaluate`.
    """
    candidates = [path, path / METRICS_FILE, path / DEFAULT_FOLDER / METRICS_FILE]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        raise UserError(f"{path} has no {METRICS_FILE}; run `s2ca evaluate` on it first")
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        values = {
            (row["case"], row["region"]): {
                metric: float(row[metric]) if row[metric] else math.nan for metric in METRICS
            }
            for row in rows
        }
        ((rules, tolerance),) = {(row["rules"], float(row["nsd_tolerance_mm"])) for row in rows}
        if rules not in RULES:
            raise ValueError(f"unknown rules {rules!r}; there are {', '.join(RULES)}")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file} is not a table of `s2ca evaluate`: {type(error).__name__}: {error}"
        ) from error
    return MetricsTable(file, rules, tolerance, values)


def unpaired(first: MetricsTable, second: MetricsTable) -> list[str]:
    """One sentence for each case, and each region, that only one of two runs has."""
    found: dict[str, None] = {}  # ordered, as a set is not
    for table, other in ((first, second), (second, first)):
        regions = {region for _, region in other.values}
        for case, region in table.values:
            if (case, region) not in other.values:
                what = case if region in regions else f"region {region}"
                found[f"{what}: in {table.path} alone"] = None
    return list(found)


def compare_tables(
    first: MetricsTable, second: MetricsTable, *, infinity: float, keep_going: bool = False
) -> dict[str, dict[str, Comparison]]:
    """For each region and each metric of `COMPARED`, the paired comparison.

    Args:
        first: A run.
        second: Another one, by the same rules.
        infinity: What an infinite HD95 counts, in mm.
        keep_going: Compare what both have where one has more, which `unpaired` names.

    Raises:
        UserError: Different rules, no case and region in common, or, without `keep_going`, a case
            or region that only one run has.
    """
    if first.rules != second.rules:
        raise UserError(
            f"the runs were scored by different rules, {first.rules} and {second.rules}; "
            "evaluate both with the same --rules"
        )
    if first.tolerance != second.tolerance:
        raise UserError(
            f"NSD is at {first.tolerance:g} mm in one run and at {second.tolerance:g} mm in the "
            "other; evaluate both with the same --tolerance"
        )
    common = [key for key in first.values if key in second.values]
    if not common:
        raise UserError("the two runs have no case and region in common")
    left_over = unpaired(first, second)
    if left_over and not keep_going:
        what = "\n  ".join(left_over)
        raise UserError(
            f"the runs are not of the same cases (--keep-going compares the common):\n  {what}"
        )
    regions = list(dict.fromkeys(region for _, region in common))
    return {
        region: {
            metric: compare(
                _column(first, common, region, metric),
                _column(second, common, region, metric),
                higher_is_better=not metric.endswith("_mm"),
                infinity=infinity,
            )
            for metric in COMPARED
        }
        for region in regions
    }


def _column(
    table: MetricsTable, keys: Sequence[tuple[str, str]], region: str, metric: str
) -> list[float]:
    return [table.values[key][metric] for key in keys if key[1] == region]


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN; what is undefined becomes null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
