"""What a prediction says of its own certainty: saved probabilities, and one number a case."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json
from nnunetv2_s2ca.evaluation.attempts import Problem, attempt_cases
from nnunetv2_s2ca.reporting.calibration import (
    MOST_CASES,
    Bins,
    bins_of_case,
    calibration_figure,
)
from nnunetv2_s2ca.reporting.plots import Figure
from nnunetv2_s2ca.reporting.runs import Run


def calibration_of(run: Run, *, processes: int | None) -> Figure | None:
    """The reliability diagram of a run; None where no probabilities were saved.

    Of many cases, every so manieth is read, at most `MOST_CASES`.
    """
    files = [case for case in run.cases.values() if case.probabilities and case.truth]
    if not files:
        return None
    if run.scheme is None:
        run.missing.append("Calibration: it needs dataset.json.")
        return None
    chosen = files[:: math.ceil(len(files) / MOST_CASES)]
    try:
        outcomes = attempt_cases(
            partial(bins_of_case, scheme=run.scheme),
            chosen,
            processes=processes,
            title="calibration",
        )
    except UserError as error:
        run.missing.append(f"Calibration: {error}.")
        return None
    found: list[Bins] = []
    for outcome in outcomes:
        if isinstance(outcome, Problem):
            run.missing.append(f"Calibration: {outcome.text}.")
        else:
            found.append(outcome)
    if not found:
        return None
    total = found[0]
    for bins in found[1:]:
        total += bins
    return calibration_figure(total, [region.name for region in run.scheme.regions], len(found))


def uncertainty_of(run: Run) -> dict[str, float]:
    """Case → its uncertainty, from the JSON files of `s2ca segment` beside the predictions."""
    found = {}
    for case in run.cases.values():
        if case.prediction is None:
            continue
        for name in (f"{case.case}.json", f"{case.case}_report.json"):
            value = _uncertainty(case.prediction.with_name(name))
            if value is not None:
                found[case.case] = value
                break
    return found


def _uncertainty(path: Path) -> float | None:
    if not path.is_file():
        return None
    try:
        return uncertainty_in(read_json(path))
    except UserError:
        return None


def uncertainty_in(content: dict) -> float | None:
    """The one number in a report of `s2ca segment`."""
    value = content.get("uncertainty")
    if isinstance(value, dict):
        value = value.get("case")
    finite = (
        isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    )
    return float(value) if finite else None  # type: ignore[arg-type]
