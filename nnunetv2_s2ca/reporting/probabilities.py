"""What a prediction says of its own certainty: saved probabilities, and one number a case."""

from __future__ import annotations

import math
from functools import partial

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json
from nnunetv2_s2ca.evaluation.attempts import Problem, attempt_cases
from nnunetv2_s2ca.reporting.calibration import (
    MOST_CASES,
    Bins,
    bins_of_case,
    calibration_figure,
)
from nnunetv2_s2ca.reporting.patient import entries_of, uncertainty_in
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
    """Case → its uncertainty, from JSON files of `s2ca segment --report` beside the predictions."""
    found = {}
    for folder in run.predictions:
        for path in sorted(folder.glob("*.json")):
            try:
                entries = entries_of(read_json(path))
            except UserError:
                continue
            for case, entry in entries.items():
                value = uncertainty_in(entry)
                if value is not None and case in run.cases:
                    found[case] = value
    return found
