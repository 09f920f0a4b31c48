"""The choice of the rules' sizes on out-of-fold predictions.

Each size is chosen in turn, the others held, until none changes: for each region, outermost first,
its smallest component, then the smallest enhancing tumour. A size is taken only if it raises the
mean Dice over cases and regions and lowers that of no region, so no step can make it worse. What
a size does to the Dice follows from the sizes of the components and of their overlap with the
truth, so the volumes are read once, and trying all sizes takes no time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cc3d
import numpy as np

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.workers import map_cases
from nnunetv2_s2ca.evaluation.boxes import bounding_box
from nnunetv2_s2ca.evaluation.case import evaluate_case
from nnunetv2_s2ca.evaluation.cohort import CasePair, read_pair
from nnunetv2_s2ca.evaluation.regions import LabelScheme
from nnunetv2_s2ca.evaluation.rules import rules_named
from nnunetv2_s2ca.postprocessing.out_of_fold import out_of_fold_pairs
from nnunetv2_s2ca.postprocessing.rules import (
    ENHANCING,
    NestedRegion,
    PostprocessingRules,
    nest,
    postprocess,
)

COMPONENT_SIZES = (0, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
ENHANCING_SIZES = (0, 50, 100, 200, 300, 400, 500, 700, 1000)

# Means of Dice closer than this are a tie, which HD95 decides
TIE = 1e-9


@dataclass(frozen=True)
class Scores:
    """Means over cases, empty regions counted as 2017–2022 do.

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
        before: Scores of the predictions as they are.
        after: Scores after the chosen rules.
    """

    rules: PostprocessingRules
    before: Scores
    after: Scores


def fit_model(
    model: Path,
    *,
    scheme: LabelScheme,
    output: Path | None = None,
    reference: Path | None = None,
    splits: Path | None = None,
    fill_holes: bool = False,
    processes: int = 1,
    overwrite: bool = False,
) -> tuple[Path, Fitted, list[int]]:
    """Fit the rules on a trained model's out-of-fold predictions and write them as JSON.

    Args:
        model: nnU-Net's folder of a trained model, `nnUNet_results/DATASET/TRAINER__PLANS__CONF`.
        scheme: Regions and labels of the dataset.
        output: The file to write; default `s2ca_postprocessing.json` in `model`.
        reference: Folder with the truth; default `gt_segmentations` of the dataset in
            `nnUNet_preprocessed`.
        splits: Default `splits_final.json` of the dataset in `nnUNet_preprocessed`.
        fill_holes: As in `fit_rules`.
        processes: How many cases to work on at a time.
        overwrite: Replace an existing `output`.

    Returns:
        The file, what it holds, and the folds that have no predictions and took no part.

    Raises:
        UserError: As `out_of_fold_pairs` and `fit_rules`, or the output exists or is a folder.
    """
    output = output or model / "s2ca_postprocessing.json"
    if output.is_dir():
        raise UserError(f"{output} is a folder; name a file for the rules (-o)")
    if output.exists() and not overwrite:
        raise UserError(f"{output} exists; --overwrite replaces it, -o goes elsewhere")
    if reference is None or splits is None:
        folder = _preprocessed_folder(model)
        reference = reference or folder / "gt_segmentations"
        splits = splits or folder / "splits_final.json"
    pairs, missing = out_of_fold_pairs(model, reference=reference, splits=splits)
    fitted = fit_rules(pairs, scheme=scheme, fill_holes=fill_holes, processes=processes)
    fitted.rules.write(
        output,
        fitted_on={
            "model": str(model),
            "splits": str(splits),
            "cases": len(pairs),
            "missing_folds": missing,
        },
        scores={"before": fitted.before.as_json(), "after": fitted.after.as_json()},
    )
    return output, fitted, missing


@dataclass(frozen=True)
class _Components:
    """The components of one region in one case.

    Attributes:
        sizes: Voxels of each component, shape `(N,)`; the rules go by these.
        scored: Voxels of each that are not ignored; Dice goes by these.
        overlaps: Voxels of each that are in the truth, shape `(N,)`.
        containers: For each, the index of the parent region's component that it lies in.
        truth: Voxels of the truth.
    """

    sizes: np.ndarray
    scored: np.ndarray
    overlaps: np.ndarray
    containers: np.ndarray
    truth: int


def fit_rules(
    pairs: Sequence[CasePair],
    *,
    scheme: LabelScheme,
    fill_holes: bool = False,
    processes: int = 1,
) -> Fitted:
    """Choose sizes that raise the mean Dice of `pairs`.

    Of sizes with the same Dice the one with the lower mean HD95 is taken, then the smaller one.

    Args:
        pairs: Out-of-fold predictions and their truth.
        scheme: Regions and labels of both.
        fill_holes: Fill holes, too, if that raises the mean Dice and lowers no region's.
        processes: How many cases to work on at a time.

    Raises:
        UserError: A file is damaged, grids differ, or a label is unknown.
    """
    tables = map_cases(_Counting(scheme), pairs, processes=processes, title="fit")

    def score(rules: PostprocessingRules, cases: Sequence[CasePair] = pairs) -> Scores:
        return _score(cases, rules, scheme=scheme, processes=processes)

    chosen = _search(nest(scheme.regions), tables, pairs, score)
    untouched = PostprocessingRules(dict.fromkeys(chosen.smallest_component, 0))
    before, after = score(untouched), score(chosen)
    if not _is_no_worse(after.dice, before.dice):
        # overlapping regions of one's own may break what holds for nested ones
        chosen, after = untouched, before
    if fill_holes:
        filled = score(replace(chosen, fill_holes=True))
        if _is_no_worse(filled.dice, after.dice) and sum(filled.dice.values()) > sum(
            after.dice.values()
        ):
            chosen, after = replace(chosen, fill_holes=True), filled
    return Fitted(chosen, before, after)


def _search(
    nested: Sequence[NestedRegion],
    tables: Sequence[dict[str, _Components]],
    pairs: Sequence[CasePair],
    score: Callable[[PostprocessingRules, Sequence[CasePair]], Scores],
) -> PostprocessingRules:
    """Choose one size after another until none changes."""
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
            rules = _best_of(candidates, rules, nested, tables, pairs, score)
        if any(p.region.name == ENHANCING and p.label_if_removed for p in nested):
            candidates = [replace(rules, smallest_enhancing=size) for size in ENHANCING_SIZES]
            rules = _best_of(candidates, rules, nested, tables, pairs, score)
    return rules


def _best_of(
    candidates: Sequence[PostprocessingRules],
    current: PostprocessingRules,
    nested: Sequence[NestedRegion],
    tables: Sequence[dict[str, _Components]],
    pairs: Sequence[CasePair],
    score: Callable[[PostprocessingRules, Sequence[CasePair]], Scores],
) -> PostprocessingRules:
    """The best of the candidates that are no worse than the current rules in any region."""

    def mean_dice(rules: PostprocessingRules) -> np.ndarray:
        return np.mean([_dice_of(nested, table, rules) for table in tables], axis=0)

    held = mean_dice(current)
    sound = [(r, d) for r in candidates if ((d := mean_dice(r)) >= held - TIE).all()]
    top = max(dice.sum() for _, dice in sound)
    tied = [rules for rules, dice in sound if dice.sum() >= top - TIE]
    kept = [[_kept_bytes(nested, table, rules) for table in tables] for rules in tied]
    # Cases that all of them treat alike cannot tell them apart, and need not be read again
    differing = [pair for pair, *one in zip(pairs, *kept, strict=True) if len(set(one)) > 1]
    if not differing:
        return tied[0]
    distances = [sum(score(rules, differing).hd95_mm.values()) for rules in tied]
    lowest = min(distances)
    return next(r for r, d in zip(tied, distances, strict=True) if d <= lowest + TIE)


def _kept(
    nested: Sequence[NestedRegion], table: dict[str, _Components], rules: PostprocessingRules
) -> dict[str, np.ndarray]:
    """For each region, which of its components the rules keep."""
    kept: dict[str, np.ndarray] = {}
    for place in nested:
        name = place.region.name
        components = table[name]
        kept[name] = components.sizes >= rules.smallest_component.get(name, 0)
        if place.parent is not None:
            kept[name] &= kept[place.parent][components.containers]
        if name == ENHANCING and components.sizes[kept[name]].sum() < rules.smallest_enhancing:
            kept[name][:] = False
    return kept


def _kept_bytes(
    nested: Sequence[NestedRegion], table: dict[str, _Components], rules: PostprocessingRules
) -> bytes:
    """What the rules keep in a case, as something that can be compared at once."""
    return b"".join(kept.tobytes() for kept in _kept(nested, table, rules).values())


def _dice_of(
    nested: Sequence[NestedRegion], table: dict[str, _Components], rules: PostprocessingRules
) -> list[float]:
    dices = []
    for name, kept in _kept(nested, table, rules).items():
        components = table[name]
        both = components.truth + components.scored[kept].sum()
        dices.append(2 * components.overlaps[kept].sum() / both if both else 1.0)
    return dices


@dataclass(frozen=True)
class _Counting:
    """Counts a case's components; a class, since workers need it pickled."""

    scheme: LabelScheme

    def __call__(self, pair: CasePair) -> dict[str, _Components]:
        reference, prediction, _ = read_pair(pair, scheme=self.scheme)
        box = bounding_box((reference != 0) | (prediction != 0))
        reference, prediction = reference[box], prediction[box]
        ignore = self.scheme.ignore_label
        scored = True if ignore is None else reference != ignore
        labelled: dict[str, np.ndarray] = {}
        table: dict[str, _Components] = {}
        for place in nest(self.scheme.regions):
            name = place.region.name
            mask = np.ascontiguousarray(place.region.mask(prediction))
            truth = place.region.mask(reference)
            components, count = cc3d.connected_components(mask, connectivity=26, return_N=True)
            labelled[name] = components
            containers = np.zeros(count + 1, dtype=int)
            if place.parent is not None:
                # a component lies in one of the parent's, whichever of its voxels is asked
                containers[components[mask]] = labelled[place.parent][mask]
            table[name] = _Components(
                sizes=np.bincount(components[mask], minlength=count + 1)[1:],
                scored=np.bincount(components[mask & scored], minlength=count + 1)[1:],
                overlaps=np.bincount(components[mask & truth], minlength=count + 1)[1:],
                containers=containers[1:] - 1,
                truth=int(np.count_nonzero(truth)),
            )
        return table


@dataclass(frozen=True)
class _Scoring:
    """Scores a case after the rules; a class, since workers need it pickled."""

    scheme: LabelScheme
    rules: PostprocessingRules

    def __call__(self, pair: CasePair) -> list[tuple[float, float]]:
        reference, prediction, spacing = read_pair(pair, scheme=self.scheme)
        rows = evaluate_case(
            reference,
            postprocess(prediction, self.rules, regions=self.scheme.regions),
            spacing=spacing,
            regions=self.scheme.regions,
            rules=rules_named("classic"),
            ignore_label=self.scheme.ignore_label,
        )
        return [(row.dice, row.hd95_mm) for row in rows]


def _score(
    pairs: Sequence[CasePair], rules: PostprocessingRules, *, scheme: LabelScheme, processes: int
) -> Scores:
    rows = map_cases(_Scoring(scheme, rules), pairs, processes=processes)
    means = np.array(rows).mean(axis=0)
    names = [region.name for region in scheme.regions]
    return Scores(
        dice=dict(zip(names, means[:, 0].tolist(), strict=True)),
        hd95_mm=dict(zip(names, means[:, 1].tolist(), strict=True)),
    )


def _is_no_worse(new: dict[str, float], old: dict[str, float]) -> bool:
    return all(new[name] >= old[name] - TIE for name in old)


def _preprocessed_folder(model: Path) -> Path:
    base = os.environ.get("nnUNet_preprocessed")  # noqa: SIM112 - nnU-Net spells it so
    dataset = model.resolve().parent.name
    if base is None or not (Path(base) / dataset).is_dir():
        raise UserError(
            f"nnUNet_preprocessed is {base or 'not set'} and has no {dataset}, the dataset of "
            f"{model}; name -ref and --splits"
        )
    return Path(base) / dataset
