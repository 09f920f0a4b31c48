"""Fit the rules' sizes on out-of-fold predictions.

Coordinate ascent until no size changes: the smallest component of each region, outermost first,
then the smallest enhancing tumour. A size is accepted only if it raises the mean Dice over cases
and regions and lowers no region's, so no step can make it worse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from nnunetv2_s2ca.brats.regions import LabelScheme
from nnunetv2_s2ca.evaluation.attempts import all_results, attempt_cases
from nnunetv2_s2ca.evaluation.case import evaluate_case
from nnunetv2_s2ca.evaluation.cohort import CasePair, read_pair
from nnunetv2_s2ca.evaluation.nested_regions import nested_regions
from nnunetv2_s2ca.evaluation.rules import rules_named
from nnunetv2_s2ca.postprocessing.component_tables import (
    CaseTable,
    component_table,
    dice_after,
    kept_components,
)
from nnunetv2_s2ca.postprocessing.rules import NestedRegion, PostprocessingRules, nest, postprocess

COMPONENT_SIZES = (0, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
ENHANCING_SIZES = (0, 50, 100, 200, 300, 400, 500, 700, 1000)

# Mean Dice values closer than this are tied; HD95 breaks the tie
TIE = 1e-9


@dataclass(frozen=True)
class Scores:
    """Means over cases, with empty regions counted as in 2017–2022.

    Attributes:
        dice: Mean Dice by region.
        hd95_mm: Mean HD95 in mm by region.
    """

    dice: dict[str, float]
    hd95_mm: dict[str, float]

    def as_json(self) -> dict[str, dict[str, float]]:
        """The scores by region, with their mean."""
        regions = {
            name: {"dice": self.dice[name], "hd95_mm": self.hd95_mm[name]} for name in self.dice
        }
        return regions | {
            "mean": {
                "dice": float(np.mean(list(self.dice.values()))),
                "hd95_mm": float(np.mean(list(self.hd95_mm.values()))),
            }
        }


@dataclass(frozen=True)
class Fitted:
    """The outcome of a fit.

    Attributes:
        rules: The chosen rules.
        before: Scores of the unchanged predictions.
        after: Scores after the chosen rules.
    """

    rules: PostprocessingRules
    before: Scores
    after: Scores


# Scores several rules on the same cases
ScoreAll = Callable[[Sequence[PostprocessingRules], Sequence[CasePair]], list[Scores]]


def fit_rules(
    pairs: Sequence[CasePair],
    *,
    scheme: LabelScheme,
    fill_holes: bool = False,
    processes: int | None = None,
) -> Fitted:
    """Choose sizes that raise the mean Dice of `pairs`.

    Ties in Dice go to the lower mean HD95, then to the smaller size.

    Args:
        pairs: Out-of-fold predictions and their truth.
        scheme: Regions and labels of both; separate labels are scored as the regions that they
            imply.
        fill_holes: Also fill holes if this raises the mean Dice and lowers no region's.
        processes: Worker processes; all cores if None.

    Raises:
        UserError: A file is damaged, grids differ, or a label is unknown; all such cases are named.
    """
    scheme = replace(scheme, regions=nested_regions(scheme.regions))
    count = partial(component_table, scheme=scheme)
    tables = all_results(attempt_cases(count, pairs, processes=processes, title="components"))
    score_all = partial(_score_all, scheme=scheme, processes=processes)

    chosen = _search(nest(scheme.regions), tables, pairs, score_all)
    untouched = PostprocessingRules(dict.fromkeys(chosen.smallest_component, 0))
    candidates = [untouched, chosen]
    if fill_holes:
        candidates += [replace(rules, fill_holes=True) for rules in candidates]
    before, after, *filled = score_all(candidates, pairs)
    if not _is_no_worse(after.dice, before.dice):
        # custom overlapping regions may violate what holds for nested ones
        chosen, after, filled = untouched, before, filled[:1]
    if filled:
        candidate = filled[-1]
        if _is_no_worse(candidate.dice, after.dice) and sum(candidate.dice.values()) > sum(
            after.dice.values()
        ):
            chosen, after = replace(chosen, fill_holes=True), candidate
    return Fitted(chosen, before, after)


def _search(
    nested: Sequence[NestedRegion],
    tables: Sequence[CaseTable],
    pairs: Sequence[CasePair],
    score_all: ScoreAll,
) -> PostprocessingRules:
    """Choose the sizes in turn until none changes."""
    names = [place.region.name for place in nested]
    rules = PostprocessingRules(dict.fromkeys(names, 0))
    before = None
    while rules != before:
        before = rules
        for name in names:
            sizes = rules.smallest_component
            candidates = [
                replace(rules, smallest_component={**sizes, name: size}) for size in COMPONENT_SIZES
            ]
            rules = _best_of(candidates, rules, nested, tables, pairs, score_all)
        if any(place.label_if_too_little is not None for place in nested):
            candidates = [replace(rules, smallest_enhancing=size) for size in ENHANCING_SIZES]
            rules = _best_of(candidates, rules, nested, tables, pairs, score_all)
    return rules


def _best_of(
    candidates: Sequence[PostprocessingRules],
    current: PostprocessingRules,
    nested: Sequence[NestedRegion],
    tables: Sequence[CaseTable],
    pairs: Sequence[CasePair],
    score_all: ScoreAll,
) -> PostprocessingRules:
    """The best candidate among those no worse than the current rules in any region."""

    def mean_dice(rules: PostprocessingRules) -> np.ndarray:
        return np.mean([dice_after(nested, table, rules) for table in tables], axis=0)

    held = mean_dice(current)
    sound = [(r, d) for r in candidates if ((d := mean_dice(r)) >= held - TIE).all()]
    top = max(dice.sum() for _, dice in sound)
    tied = [rules for rules, dice in sound if dice.sum() >= top - TIE]
    kept = [[_kept_bytes(nested, table, rules) for table in tables] for rules in tied]
    # Cases that all tied rules treat alike cannot break the tie and need not be read again
    differing = [pair for pair, *one in zip(pairs, *kept, strict=True) if len(set(one)) > 1]
    if not differing:
        return tied[0]
    distances = [sum(scores.hd95_mm.values()) for scores in score_all(tied, differing)]
    lowest = min(distances)
    return next(r for r, d in zip(tied, distances, strict=True) if d <= lowest + TIE)


def _kept_bytes(
    nested: Sequence[NestedRegion], table: CaseTable, rules: PostprocessingRules
) -> bytes:
    """The components that the rules keep in a case, in a hashable form."""
    return b"".join(kept.tobytes() for kept in kept_components(nested, table, rules).values())


def _score_all(
    candidates: Sequence[PostprocessingRules],
    pairs: Sequence[CasePair],
    *,
    scheme: LabelScheme,
    processes: int | None,
) -> list[Scores]:
    """The scores of each candidate; each case is read once."""
    score = partial(_score_case, candidates=candidates, scheme=scheme)
    scored = all_results(attempt_cases(score, pairs, processes=processes, title="scores"))
    names = [region.name for region in scheme.regions]
    return [
        Scores(
            dice=dict(zip(names, dice.tolist(), strict=True)),
            hd95_mm=dict(zip(names, hd95.tolist(), strict=True)),
        )
        for dice, hd95 in np.mean(scored, axis=0)
    ]


def _score_case(
    pair: CasePair, *, candidates: Sequence[PostprocessingRules], scheme: LabelScheme
) -> np.ndarray:
    """Dice and HD95 of a case after each candidate, shape `(candidates, 2, regions)`."""
    reference, prediction, spacing = read_pair(pair, scheme=scheme)
    scores = []
    for candidate in candidates:
        rows = evaluate_case(
            reference,
            postprocess(prediction, candidate, regions=scheme.regions),
            spacing=spacing,
            regions=scheme.regions,
            rules=rules_named("classic"),
            ignore_label=scheme.ignore_label,
        )
        scores.append([[row.dice for row in rows], [row.hd95_mm for row in rows]])
    return np.array(scores)


def _is_no_worse(new: dict[str, float], old: dict[str, float]) -> bool:
    return all(new[name] >= old[name] - TIE for name in old)
