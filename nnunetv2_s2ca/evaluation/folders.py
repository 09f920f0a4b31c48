"""Evaluate a folder of predictions and write the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunetv2_s2ca.brats.regions import LabelScheme
from nnunetv2_s2ca.core.added_files import added_files
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.evaluation.attempts import describe_problems
from nnunetv2_s2ca.evaluation.cohort import CohortResult, evaluate_cohort, pair_cases
from nnunetv2_s2ca.evaluation.official import OFFICIAL_CSV, OFFICIAL_JSON, run_official
from nnunetv2_s2ca.evaluation.results import METRICS_FILE, SUMMARY_FILE, write_results
from nnunetv2_s2ca.evaluation.rules import Rules


def evaluate_folders(
    reference: Path,
    prediction: Path,
    *,
    output: Path,
    scheme: LabelScheme,
    rules: Rules,
    processes: int | None = None,
    keep_going: bool = False,
    overwrite: bool = False,
    official: Any = None,
) -> CohortResult:
    """Score the predictions of a folder and write `metrics.csv` and `summary.json`.

    Args:
        reference: Folder with reference segmentations.
        prediction: Folder with predictions.
        output: Folder to write to; created if missing.
        scheme: Regions and labels of both folders.
        rules: The rules to score by.
        processes: Worker processes; all cores if None.
        keep_going: Skip cases with problems; the result names them.
        overwrite: Replace results in `output`.
        official: Evaluator from `load_official`; the challenge's own program then also scores
            the cases and writes its files.

    Raises:
        UserError: Results exist already; `output` cannot be written; a folder is missing or empty;
            or, without `keep_going`, any case has a problem. All problems are named, and nothing
            is written.
    """
    names = [METRICS_FILE, SUMMARY_FILE]
    if official is not None:
        names += [OFFICIAL_CSV, OFFICIAL_JSON]
    pairs, unpaired = pair_cases(reference, prediction)
    with added_files(output, names, overwrite=overwrite) as folder:
        result = evaluate_cohort(pairs, scheme=scheme, rules=rules, processes=processes)
        result = CohortResult(result.metrics, sorted(unpaired + result.problems))
        if result.problems and not keep_going:
            raise UserError(
                describe_problems(result.problems, "`keep_going=True` scores the others")
            )
        if not result.metrics:
            raise UserError(describe_problems(result.problems, "no case could be evaluated"))
        write_results(folder, result, rules=rules, reference=reference, prediction=prediction)
        if official is not None:
            scored = [pair for pair in pairs if pair.case in result.metrics]
            run_official(scored, folder, evaluator=official)
    return result
