"""Dice after post-processing, computed from component sizes only.

The size of each component and its overlap with the truth determine the Dice for any choice of the
rules' sizes. Each case is therefore read once, and trying all sizes is cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np

from nnunetv2_s2ca.brats.regions import LabelScheme
from nnunetv2_s2ca.evaluation.boxes import bounding_box
from nnunetv2_s2ca.evaluation.cohort import CasePair, read_pair
from nnunetv2_s2ca.postprocessing.rules import ENHANCING, NestedRegion, PostprocessingRules, nest


@dataclass(frozen=True)
class Components:
    """The components of one region in one case.

    Attributes:
        sizes: Voxels of each component, shape `(N,)`; the rules use these.
        scored: Voxels of each component that are not ignored; Dice uses these.
        overlaps: Voxels of each component that are in the truth, shape `(N,)`.
        containers: Index of the parent region's component that contains each component.
        truth: Number of voxels of the truth.
    """

    sizes: np.ndarray
    scored: np.ndarray
    overlaps: np.ndarray
    containers: np.ndarray
    truth: int


# The components of a case's regions, by region name
CaseTable = dict[str, Components]


def component_table(pair: CasePair, *, scheme: LabelScheme) -> CaseTable:
    """Count a case's components.

    Raises:
        UserError: A file is damaged, the grids differ, or a label is unknown.
    """
    reference, prediction, _ = read_pair(pair, scheme=scheme)
    box = bounding_box((reference != 0) | (prediction != 0))
    reference, prediction = reference[box], prediction[box]
    scored = True if scheme.ignore_label is None else reference != scheme.ignore_label
    labelled: dict[str, np.ndarray] = {}
    table: CaseTable = {}
    for place in nest(scheme.regions):
        name = place.region.name
        mask = np.ascontiguousarray(place.region.mask(prediction))
        truth = place.region.mask(reference)
        components, count = cc3d.connected_components(mask, connectivity=26, return_N=True)
        labelled[name] = components
        containers = np.zeros(count + 1, dtype=int)
        if place.parent is not None:
            # all voxels of a component lie in the same parent component
            containers[components[mask]] = labelled[place.parent][mask]
        table[name] = Components(
            sizes=np.bincount(components[mask], minlength=count + 1)[1:],
            scored=np.bincount(components[mask & scored], minlength=count + 1)[1:],
            overlaps=np.bincount(components[mask & truth], minlength=count + 1)[1:],
            containers=containers[1:] - 1,
            truth=int(np.count_nonzero(truth)),
        )
    return table


def kept_components(
    nested: Sequence[NestedRegion], table: CaseTable, rules: PostprocessingRules
) -> dict[str, np.ndarray]:
    """The components of each region that the rules keep, booleans of shape `(N,)`."""
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


def dice_after(
    nested: Sequence[NestedRegion], table: CaseTable, rules: PostprocessingRules
) -> list[float]:
    """The Dice of each region after the rules; 1 if a region is empty in both."""
    dices = []
    for name, kept in kept_components(nested, table, rules).items():
        components = table[name]
        both = components.truth + components.scored[kept].sum()
        dices.append(2 * components.overlaps[kept].sum() / both if both else 1.0)
    return dices
