"""Evaluation of a folder of predictions, from files to files."""

from __future__ import annotations

from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_output_folder
from nnunetv2_s2ca.evaluation.cohort import (
    CohortResult,
    describe_troubles,
    evaluate_cohort,
    pair_cases,
)
from nnunetv2_s2ca.evaluation.regions import LabelScheme
from nnunetv2_s2ca.evaluation.results import METRICS_FILE, SUMMARY_FILE, write_results
from nnunetv2_s2ca.evaluation.rules import Rules


def evaluate_folders(
    reference: Path,
    prediction: Path,
    *,
    output: Path,
    scheme: LabelScheme,
    rules: Rules,
    processes: int = 1,
    keep_going: bool = False,
    overwrite: bool = False,
) -> CohortResult:
    """Score the predictions of a folder and write `metrics.csv` and `summary.json`.

    Args:
        reference: Folder with the truth.
        prediction: Folder with what is to be judged.
        output: Folder to write to; made if missing.
        scheme: Regions and labels of both folders.
        rules: The rules to score by.
        processes: How many cases to work on at a time.
        keep_going: Score the sound cases where others have troubles, which the result names.
        overwrite: Replace results that `output` holds.

    Raises:
        UserError: Results exist already; `output` is a file; a folder is missing or empty; or,
            without `keep_going`, any case has a trouble. All of them are named, and nothing is
            written.
    """
    check_output_folder(output)
    existing = [name for name in (METRICS_FILE, SUMMARY_FILE) if (output / name).exists()]
    if existing and not overwrite:
        raise UserError(
            f"{output / existing[0]} exists; --overwrite replaces it, -o goes elsewhere"
        )
    pairs, unpaired = pair_cases(reference, prediction)
    result = evaluate_cohort(pairs, scheme=scheme, rules=rules, processes=processes)
    result = CohortResult(result.metrics, sorted(unpaired + result.troubles))
    if result.troubles and not keep_going:
        raise UserError(describe_troubles(result.troubles, "--keep-going scores the others"))
    if not result.metrics:
        raise UserError(describe_troubles(result.troubles, "no case could be evaluated"))
    write_results(output, result, rules=rules, reference=reference, prediction=prediction)
    return result
