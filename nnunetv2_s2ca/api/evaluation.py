"""Score predictions by the challenge's rules, and compare two runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from nnunetv2_s2ca.api.report import check_page
from nnunetv2_s2ca.api.report import report as write_report
from nnunetv2_s2ca.brats.regions import (
    LabelScheme,
    find_dataset_json,
    scheme_of_dataset,
    scheme_of_edition,
)
from nnunetv2_s2ca.core.added_files import added_files
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_output_folder
from nnunetv2_s2ca.evaluation.attempts import describe_problems
from nnunetv2_s2ca.evaluation.cohort import CohortResult, evaluate_cohort, pair_cases
from nnunetv2_s2ca.evaluation.comparison import compare_tables, unpaired
from nnunetv2_s2ca.evaluation.label_meaning import check_labels_are_of_edition
from nnunetv2_s2ca.evaluation.metrics_table import read_metrics
from nnunetv2_s2ca.evaluation.official import (
    OFFICIAL_CSV,
    OFFICIAL_JSON,
    load_official,
    run_official,
)
from nnunetv2_s2ca.evaluation.results import (
    DEFAULT_FOLDER,
    METRICS_FILE,
    SUMMARY_FILE,
    summarise_regions,
    write_results,
)
from nnunetv2_s2ca.evaluation.rules import default_rules, rules_named
from nnunetv2_s2ca.evaluation.statistics import Comparison, Summary
from nnunetv2_s2ca.reporting.tables import comparison_table, evaluation_table, write_comparison


@dataclass(frozen=True)
class Evaluation:
    """Scores of a folder of predictions.

    Attributes:
        output: Folder with `metrics.csv` and `summary.json`.
        summaries: Region → metric → mean, median, standard deviation and interval over cases.
        cases: Number of cases scored.
        problems: Why other cases were not scored, a line each.
        table: The means as text.
        report: The HTML page, if one was asked for.
    """

    output: Path
    summaries: Mapping[str, Mapping[str, Summary]]
    cases: int
    problems: list[str]
    table: str
    report: Path | None = None

    def __str__(self) -> str:
        text = f"{self.table}\n\nmetrics.csv and summary.json are in {self.output}"
        return text + _about_page(self.report)


@dataclass(frozen=True)
class RunComparison:
    """Two runs, case by case.

    Attributes:
        comparisons: Region → metric → paired differences, second minus first.
        unpaired: Cases that only one run has, a line each.
        table: The comparison as text.
        report: The HTML page, if one was asked for.
    """

    comparisons: Mapping[str, Mapping[str, Comparison]]
    unpaired: list[str]
    table: str
    report: Path | None = None

    def __str__(self) -> str:
        return self.table + _about_page(self.report)


def evaluate(
    reference: str | PathLike[str],
    predictions: str | PathLike[str],
    *,
    edition: str | None = None,
    dataset_json: str | PathLike[str] | None = None,
    rules: str | None = None,
    tolerance: float | None = None,
    output: str | PathLike[str] | None = None,
    official: bool = False,
    keep_going: bool = False,
    overwrite: bool = False,
    processes: int | None = None,
    report: str | PathLike[str] | None = None,
) -> Evaluation:
    """Score predictions by the challenge's rules and write `metrics.csv` and `summary.json`.

    Args:
        reference: Folder with the true segmentations.
        predictions: Folder with the predictions, under the same names.
        edition: The edition whose own labels both folders hold; if None, they hold nnU-Net's.
        dataset_json: nnU-Net's file that defines the regions; if None, the one in the folders.
        rules: "classic", "lesionwise-2023" or "brats-2026"; if None, the edition's own, or classic.
        tolerance: Tolerance of NSD in mm; the rules' own if None.
        output: Folder for the results; `s2ca_evaluation` in the predictions if None.
        official: Also run the challenge's own program, `brats-evaluation`.
        keep_going: Score valid cases even if others have problems.
        overwrite: Replace earlier results.
        processes: Worker processes; all cores if None.
        report: Also write an HTML page with plots and pictures to this file.

    Raises:
        UserError: Arguments contradict each other, or a case has a problem; all are named and
            nothing is written.
    """
    predictions, reference = Path(predictions), Path(reference)
    if official and not edition:
        raise UserError("`official` needs `edition`, since that program reads only its labels")
    if report is not None:
        check_page(Path(report), overwrite=overwrite)
    scoring = rules_named(rules or default_rules(edition), edition=edition, tolerance=tolerance)
    scheme = _scheme(reference, predictions, edition=edition, dataset_json=dataset_json)
    evaluator = load_official(edition) if official and edition else None
    names = [METRICS_FILE, SUMMARY_FILE, *([OFFICIAL_CSV, OFFICIAL_JSON] if official else [])]
    folder = Path(output) if output else predictions / DEFAULT_FOLDER
    pairs, unscored = pair_cases(reference, predictions)
    with added_files(folder, names, overwrite=overwrite) as unfinished:
        result = evaluate_cohort(pairs, scheme=scheme, rules=scoring, processes=processes)
        result = CohortResult(result.metrics, sorted(unscored + result.problems))
        if result.problems and not keep_going:
            raise UserError(
                describe_problems(result.problems, "`keep_going=True` scores the others")
            )
        if not result.metrics:
            raise UserError(describe_problems(result.problems, "no case could be evaluated"))
        write_results(
            unfinished,
            result,
            rules=scoring,
            reference=reference,
            prediction=predictions,
            scheme=scheme,
        )
        if evaluator is not None:
            scored = [pair for pair in pairs if pair.case in result.metrics]
            run_official(scored, unfinished, evaluator=evaluator)
    summaries = summarise_regions(result, scoring)
    cases = len(result.metrics)
    table = evaluation_table(summaries, rules=scoring, cases=cases)
    page = None
    if report is not None:
        page = write_report(
            folder,
            report,
            reference=reference,
            dataset_json=dataset_json,
            overwrite=overwrite,
            processes=processes,
        ).path
    return Evaluation(folder, summaries, cases, result.problems, table, page)


def compare(
    first: str | PathLike[str],
    second: str | PathLike[str],
    *,
    output: str | PathLike[str] | None = None,
    keep_going: bool = False,
    report: str | PathLike[str] | None = None,
) -> RunComparison:
    """Compare two evaluated runs case by case: paired differences, intervals, p values.

    Args:
        first: `metrics.csv` of a run, or the folder that holds it.
        second: The same of the other run.
        output: Also write the table to this csv file, which must not exist.
        keep_going: Compare the cases of both runs even if others exist in one run only.
        report: Also write an HTML page with plots and pictures to this file, which must not exist.

    Raises:
        UserError: A table is damaged, the runs were scored by different rules, or cases differ.
    """
    if output is not None:
        check_output_folder(Path(output).parent)
        if Path(output).exists():
            raise UserError(f"{output} exists; name another file")
    if report is not None:
        check_page(Path(report), overwrite=False)
    tables = read_metrics(Path(first)), read_metrics(Path(second))
    rules = tables[0].rules
    comparisons = compare_tables(
        *tables, infinity=rules_named(rules).infinity_in_means, keep_going=keep_going
    )
    if output is not None:
        write_comparison(Path(output), comparisons)
    table = comparison_table(comparisons, first=str(first), second=str(second), rules=rules)
    page = None if report is None else write_report([first, second], report).path
    return RunComparison(comparisons, unpaired(*tables), table, page)


def _about_page(report: Path | None) -> str:
    return "" if report is None else f"\nreport: {report}"


def _scheme(
    reference: Path,
    predictions: Path,
    *,
    edition: str | None,
    dataset_json: str | PathLike[str] | None,
) -> LabelScheme:
    """The regions and labels of both folders."""
    if edition is None:
        otherwise = ", or, for the challenge's own labels, the `edition`"
        found = dataset_json or find_dataset_json(predictions, reference, otherwise=otherwise)
        return scheme_of_dataset(Path(found))
    if dataset_json is not None:
        raise UserError("`edition` says which labels the files hold; leave out `dataset_json`")
    scheme = scheme_of_edition(edition)
    for folder in (predictions, reference):
        check_labels_are_of_edition(folder, edition=edition, scheme=scheme)
    return scheme
