"""The tables of a report, in the form that its template takes."""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nnunetv2_s2ca.evaluation.metrics_table import MetricsTable
from nnunetv2_s2ca.evaluation.results import HEADER, METRICS
from nnunetv2_s2ca.evaluation.rules import rules_named
from nnunetv2_s2ca.evaluation.statistics import MOST_CASES_OF_A_RANGE, Summary
from nnunetv2_s2ca.reporting.gallery import Gallery
from nnunetv2_s2ca.reporting.learning import Curve
from nnunetv2_s2ca.reporting.patient import Patient
from nnunetv2_s2ca.reporting.provenance import facts_about
from nnunetv2_s2ca.reporting.runs import Run
from nnunetv2_s2ca.reporting.scoring import COUNTS, cases_of, lesion_totals


@dataclass
class Content:
    """What a report shows, gathered run by run."""

    title: str
    runs: Sequence[Run]
    patients: Sequence[Patient] = ()
    summaries: dict[str, dict[str, dict[str, Summary]]] = field(default_factory=dict)
    galleries: dict[str, Gallery] = field(default_factory=dict)
    curves: dict[str, dict[int, Curve]] = field(default_factory=dict)


def summaries(content: Content) -> list[dict[str, Any]]:
    """The summary of each run with scores."""
    found = []
    for run in content.runs:
        regions = content.summaries[run.name]
        if run.scores is None or not regions:
            continue
        counts = [metrics["dice"].cases for metrics in regions.values()]
        few = any(2 <= count <= MOST_CASES_OF_A_RANGE for count in counts)
        found.append(
            {
                "name": run.name,
                "rules": _rules_text(run),
                "few": " The interval of two or three cases is just their range." if few else "",
                "regions": {
                    region: {metric: vars(summary) for metric, summary in metrics.items()}
                    for region, metrics in regions.items()
                },
            }
        )
    return found


def _rules_text(run: Run) -> str:
    noted = run.summary.get("rules")
    text = noted.get("description") if isinstance(noted, dict) else None
    if isinstance(text, str):
        return text
    return rules_named(run.scores.rules).describe() if run.scores is not None else ""


def headline(content: Content) -> list[dict[str, Any]]:
    """Mean Dice of each region, of the first run with scores."""
    run = next((run for run in content.runs if run.scores is not None), None)
    if run is None or len(content.runs) > 1:
        return []
    found = []
    for region, metrics in list(content.summaries[run.name].items())[:4]:
        dice = metrics["dice"]
        interval = "" if math.isnan(dice.ci_low) else f"{dice.ci_low:.3f} to {dice.ci_high:.3f}, "
        data = {"run": run.name, "region": region, "metric": "dice", "stat": "mean"}
        found.append(
            {
                "what": f"Dice {region}",
                "value": dice.mean,
                "range": f"{interval}n = {dice.cases}",
                "data": data,
            }
        )
    return found


def lead(content: Content) -> str:
    """One sentence: how many cases of which runs."""
    parts = []
    for run in content.runs:
        count = len(cases_of(run.scores)) if run.scores is not None else 0
        scored = "1 case" if count == 1 else f"{count} cases"
        folds = f" of {len(run.folds)} folds" if len(run.folds) > 1 else ""
        text = f"{scored}{folds} scored" if count else f"{len(run.cases)} cases, none scored"
        parts.append(f"{run.name}: {text}" if len(content.runs) > 1 else text)
    parts += [f"patient {patient.name}" for patient in content.patients]
    sentence = "; ".join(parts) + "."
    return sentence[0].upper() + sentence[1:]


def lesions(content: Content) -> list[dict[str, Any]]:
    """Counts of lesions and lesion-wise means of each run with scores."""
    found = []
    for run in content.runs:
        if run.scores is None:
            continue
        summaries = content.summaries[run.name]
        rows = {
            region: {
                **totals,
                "dice": summaries[region]["lesion_dice"].mean,
                "hd95": summaries[region]["lesion_hd95_mm"].mean,
            }
            for region, totals in lesion_totals(run.scores).items()
        }
        cases = len(cases_of(run.scores))
        found.append({"name": run.name, "rules": run.scores.rules, "cases": cases, "regions": rows})
    return found


def facts(run: Run, curves: dict[int, Curve]) -> dict[str, Any]:
    """What was run, and its scores as a file to download."""
    download = None
    if run.scores is not None:
        text = _csv(run.scores).encode("utf-8", errors="backslashreplace")
        download = f"data:text/csv;base64,{base64.b64encode(text).decode()}"
    return {"name": run.name, "facts": facts_about(run, curves), "download": download}


def _csv(table: MetricsTable) -> str:
    """The table as `metrics.csv` has it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for (case, region), values in table.values.items():
        cells = [int(values[name]) if name in COUNTS else values[name] for name in METRICS]
        cells = ["" if isinstance(cell, float) and math.isnan(cell) else cell for cell in cells]  # type: ignore[misc]
        writer.writerow([case, region, table.rules, table.tolerance, *cells])
    return text.getvalue()
