"""The metrics of all cases of two folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nnunetv2_s2ca.brats.regions import LabelScheme
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.evaluation.attempts import Problem, attempt_cases
from nnunetv2_s2ca.evaluation.case import RegionMetrics, evaluate_case
from nnunetv2_s2ca.evaluation.rules import Rules
from nnunetv2_s2ca.evaluation.segmentations import (
    find_segmentations,
    geometry_difference,
    read_labels,
    spacing_of,
)
from nnunetv2_s2ca.evaluation.surfaces import Spacing


@dataclass(frozen=True)
class CasePair:
    """One case's two files.

    Attributes:
        case: Case identifier.
        reference: Reference segmentation.
        prediction: Segmentation to evaluate.
    """

    case: str
    reference: Path
    prediction: Path

    def __str__(self) -> str:
        """The case, for errors."""
        return self.case


@dataclass(frozen=True)
class CohortResult:
    """The outcome of an evaluation.

    Attributes:
        metrics: The metrics of each evaluated case, by case identifier, sorted.
        problems: One sentence for each case that could not be evaluated.
    """

    metrics: dict[str, list[RegionMetrics]]
    problems: list[str]


def pair_cases(reference: Path, prediction: Path) -> tuple[list[CasePair], list[str]]:
    """The cases in both folders, and one sentence for each case that is in only one of them.

    Raises:
        UserError: A folder is missing or empty, or the folders have no case in common.
    """
    references, predictions = find_segmentations(reference), find_segmentations(prediction)
    pairs = [
        CasePair(case, references[case], predictions[case])
        for case in references
        if case in predictions
    ]
    problems = [
        f"{case}: no prediction in {prediction}" for case in references.keys() - predictions
    ]
    problems += [f"{case}: no reference in {reference}" for case in predictions.keys() - references]
    if not pairs:
        raise UserError(
            f"{reference} and {prediction} have no case in common: the first holds "
            f"{next(iter(references))} and {len(references) - 1} more, the second "
            f"{next(iter(predictions))} and {len(predictions) - 1} more"
        )
    return pairs, sorted(problems)


def read_pair(pair: CasePair, *, scheme: LabelScheme) -> tuple[np.ndarray, np.ndarray, Spacing]:
    """Reference and prediction of a case, integers of the same shape `(H, W, D)`, and the spacing.

    Raises:
        UserError: A file is damaged, the grids differ, or a label is unknown.
    """
    reference, reference_image = read_labels(pair.reference)
    prediction, prediction_image = read_labels(pair.prediction)
    difference = geometry_difference(reference_image, prediction_image)
    if difference is not None:
        raise UserError(f"{pair.case}: {pair.prediction} has {difference}")
    for path, segmentation in ((pair.reference, reference), (pair.prediction, prediction)):
        scheme.check(segmentation, path)
    return reference, prediction, spacing_of(reference_image)


def evaluate_pair(pair: CasePair, *, scheme: LabelScheme, rules: Rules) -> list[RegionMetrics]:
    """The metrics of one case, read from its files.

    Raises:
        UserError: A file is damaged, the grids differ, or a label is unknown.
    """
    reference, prediction, spacing = read_pair(pair, scheme=scheme)
    return evaluate_case(
        reference,
        prediction,
        spacing=spacing,
        regions=scheme.regions,
        rules=rules,
        ignore_label=scheme.ignore_label,
    )


def evaluate_cohort(
    pairs: Sequence[CasePair], *, scheme: LabelScheme, rules: Rules, processes: int | None = None
) -> CohortResult:
    """The metrics of many cases; a case that fails is named among the problems.

    Args:
        pairs: The cases.
        scheme: Regions and labels.
        rules: The rules to score by.
        processes: Number of cases to process at a time; 1 stays in this process.

    Raises:
        UserError: A worker was killed.
    """
    evaluate = partial(evaluate_pair, scheme=scheme, rules=rules)
    outcomes = attempt_cases(evaluate, pairs, processes=processes, title="evaluate")
    metrics: dict[str, list[RegionMetrics]] = {}
    problems: list[str] = []
    for pair, outcome in zip(pairs, outcomes, strict=True):
        if isinstance(outcome, Problem):
            problems.append(outcome.text)
        else:
            metrics[pair.case] = outcome
    return CohortResult(dict(sorted(metrics.items())), sorted(problems))
