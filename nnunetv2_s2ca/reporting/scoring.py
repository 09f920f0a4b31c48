"""The scores that a report shows: read from `metrics.csv`, or computed where a run has none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.evaluation.cohort import CasePair, evaluate_cohort
from nnunetv2_s2ca.evaluation.comparison import compare_tables, unpaired
from nnunetv2_s2ca.evaluation.metrics_table import MetricsTable
from nnunetv2_s2ca.evaluation.results import METRICS, SUMMARY_FILE
from nnunetv2_s2ca.evaluation.rules import rules_named
from nnunetv2_s2ca.evaluation.statistics import Comparison, Summary, summarise
from nnunetv2_s2ca.reporting.runs import Run

# names of the sums in a region's row of the lesion table
COUNTS = ("lesions", "lesions_missed", "lesions_false")


def ensure_scores(run: Run, *, processes: int | None) -> None:
    """Score a run that has no `metrics.csv` by the classic rules, in memory.

    Cases that cannot be scored are named among `run.missing`.
    """
    if run.scores is not None:
        return
    pairs = [
        CasePair(case.case, case.truth, case.prediction)
        for case in run.cases.values()
        if case.truth and case.prediction
    ]
    if not pairs or run.scheme is None:
        run.missing.append("Scores: they need predictions, the truth, and dataset.json.")
        return
    rules = rules_named("classic")
    try:
        result = evaluate_cohort(pairs, scheme=run.scheme, rules=rules, processes=processes)
    except UserError as error:
        run.missing.append(f"Scores: {error}.")
        return
    run.missing += [f"Not scored: {problem}." for problem in result.problems]
    if result.metrics:
        values = {
            (case, row.region): {name: float(getattr(row, name)) for name in METRICS}
            for case, rows in result.metrics.items()
            for row in rows
        }
        run.scores = MetricsTable(run.path, rules.name, rules.tolerance, values)
        run.computed = True


def regions_of(table: MetricsTable) -> list[str]:
    """The regions of a table, in order."""
    return list(dict.fromkeys(region for _, region in table.values))


def cases_of(table: MetricsTable) -> list[str]:
    """The cases of a table, in order."""
    return list(dict.fromkeys(case for case, _ in table.values))


def column(table: MetricsTable, region: str, metric: str) -> dict[str, float]:
    """Case → a metric of a region; NaN where the rules give none."""
    return {case: values[metric] for (case, name), values in table.values.items() if name == region}


def penalty_of(table: MetricsTable) -> float:
    """The distance in mm that stands for an infinite one."""
    return rules_named(table.rules).infinity_in_means


def summaries_of(run: Run, metrics: Sequence[str]) -> dict[str, dict[str, Summary]]:
    """Region → metric → summary over cases, as `s2ca evaluate` computes it.

    `run.missing` gets a sentence if `summary.json` says something else.
    """
    if run.scores is None:
        return {}
    penalty = penalty_of(run.scores)
    found = {
        region: {
            metric: summarise(list(column(run.scores, region, metric).values()), infinity=penalty)
            for metric in metrics
        }
        for region in regions_of(run.scores)
    }
    if run.summary and not _agree(found, run.summary.get("regions")):
        run.missing.append(
            f"{SUMMARY_FILE} differs from metrics.csv, which this page shows; run `s2ca evaluate` "
            "again."
        )
    return found


def mean_dice(table: MetricsTable) -> dict[str, float]:
    """Case → mean Dice over the regions that have one; NaN if none has."""
    found: dict[str, list[float]] = {}
    for (case, _), values in table.values.items():
        found.setdefault(case, [])
        if not math.isnan(values["dice"]):
            found[case].append(values["dice"])
    return {case: float(np.mean(values)) if values else math.nan for case, values in found.items()}


def lesion_totals(table: MetricsTable) -> dict[str, dict[str, int]]:
    """Region → sums over cases of lesions, missed and false ones."""
    return {
        region: {name: int(sum(column(table, region, name).values())) for name in COUNTS}
        for region in regions_of(table)
    }


def comparison_of(first: Run, second: Run) -> tuple[dict[str, dict[str, Comparison]], list[str]]:
    """The paired comparison of two runs, and a sentence for each thing that it leaves out."""
    if first.scores is None or second.scores is None:
        return {}, [f"Comparison of {first.name} and {second.name}: both need scores."]
    if not first.scores.values.keys() & second.scores.values.keys():
        return {}, []  # of other patients, which nobody would compare
    try:
        found = compare_tables(
            first.scores, second.scores, infinity=penalty_of(first.scores), keep_going=True
        )
    except UserError as error:
        return {}, [f"Comparison of {first.name} and {second.name}: {error}."]
    return found, [f"Not compared: {line}." for line in unpaired(first.scores, second.scores)]


def _agree(found: Mapping[str, Mapping[str, Summary]], noted: object) -> bool:
    """Whether `summary.json` holds the same numbers."""
    if not isinstance(noted, dict):
        return False
    for region, metrics in found.items():
        for metric, summary in metrics.items():
            other = (
                noted.get(region, {}).get(metric, {}) if isinstance(noted.get(region), dict) else {}
            )
            for name, value in asdict(summary).items():
                there = other.get(name) if isinstance(other, dict) else None
                if there is None:
                    if math.isfinite(value):
                        return False
                elif not isinstance(there, (int, float)) or not math.isclose(
                    there, value, rel_tol=1e-9
                ):
                    return False
    return True
