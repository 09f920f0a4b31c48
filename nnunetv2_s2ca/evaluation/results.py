"""Write evaluation results: `metrics.csv`, a row per case and region, and `summary.json`."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from nnunetv2_s2ca.brats.regions import LabelScheme
from nnunetv2_s2ca.evaluation.case import RegionMetrics
from nnunetv2_s2ca.evaluation.cohort import CohortResult
from nnunetv2_s2ca.evaluation.rules import Rules
from nnunetv2_s2ca.evaluation.statistics import Summary, summarise

METRICS_FILE = "metrics.csv"
SUMMARY_FILE = "summary.json"
# Default output of `s2ca evaluate`, so that nnU-Net's own summary.json stays untouched
DEFAULT_FOLDER = "s2ca_evaluation"

METRICS = tuple(field.name for field in fields(RegionMetrics) if field.name != "region")
HEADER = ("case", "region", "rules", "nsd_tolerance_mm", *METRICS)


def region_names(result: CohortResult) -> list[str]:
    """The regions of a result, in order."""
    return [row.region for row in next(iter(result.metrics.values()))]


def summarise_regions(result: CohortResult, rules: Rules) -> dict[str, dict[str, Summary]]:
    """The summary over cases of each region and metric."""
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
    folder: Path,
    result: CohortResult,
    *,
    rules: Rules,
    reference: Path,
    prediction: Path,
    scheme: LabelScheme | None = None,
) -> None:
    r"""Write `metrics.csv` and `summary.json` to a folder, in UTF-8.

    Characters that UTF-8 cannot encode, as in file names of another encoding, become `\udcXX`.
    """
    table = metrics_csv(result, rules)
    (folder / METRICS_FILE).write_bytes(table.encode("utf-8", errors="backslashreplace"))
    summary = {
        "rules": {
            "name": rules.name,
            "nsd_tolerance_mm": rules.tolerance,
            "description": rules.describe(),
        },
        "reference": str(reference),
        "prediction": str(prediction),
        # which labels are drawn as which region
        "labels": {region.name: list(region.labels) for region in scheme.regions} if scheme else {},
        "cases": len(result.metrics),
        "not_evaluated": result.problems,
        "regions": {
            region: {metric: _without_nan(asdict(summary)) for metric, summary in metrics.items()}
            for region, metrics in summarise_regions(result, rules).items()
        },
    }
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    (folder / SUMMARY_FILE).write_bytes(text.encode())


def metrics_csv(result: CohortResult, rules: Rules) -> str:
    """Text of `metrics.csv`; NaN is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
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


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """Replace non-finite numbers, which JSON lacks, by None."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
