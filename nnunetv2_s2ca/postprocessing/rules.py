"""The rules: small components removed, too little enhancing tumour relabelled, holes filled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cc3d
import numpy as np

from nnunetv2_s2ca.brats.regions import Region
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json, write_text
from nnunetv2_s2ca.evaluation.boxes import bounding_box
from nnunetv2_s2ca.evaluation.nested_regions import nested_regions

# The sizes in voxels of Zhou et al., IEEE TMI 2024, as the authors' program has them
PAPERS_SMALLEST_COMPONENT = 10
PAPERS_SMALLEST_ENHANCING = 400
CORE, ENHANCING = "TC", "ET"


@dataclass(frozen=True)
class PostprocessingRules:
    """Sizes below which something is taken for noise; 0 switches a rule off.

    Attributes:
        smallest_component: For each region, the least number of voxels of a component that stays.
        smallest_enhancing: The least number of voxels of ET in all, after that.
        fill_holes: Fill what a region wholly encloses.
    """

    smallest_component: Mapping[str, int] = field(default_factory=dict)
    smallest_enhancing: int = 0
    fill_holes: bool = False

    def write(self, path: Path, **more: Any) -> None:
        """Write the rules as JSON, with `more` entries that say where they come from."""
        content = {
            "smallest_component_voxels": dict(self.smallest_component),
            "smallest_enhancing_voxels": self.smallest_enhancing,
            "fill_holes": self.fill_holes,
        }
        write_text(path, json.dumps(content | more, indent=2) + "\n")


@dataclass(frozen=True)
class NestedRegion:
    """A region and its place among the others.

    Attributes:
        region: The region.
        parent: Name of the smallest region that contains it; `None` for an outermost one.
        label_if_removed: The label that its voxels get when they are taken out of it: the lowest
            one that its parent has beyond it (ET becomes the core without enhancement, TC becomes
            oedema), or background.
        label_if_too_little: The label that ET gets where there is too little of it in all, the
            core without enhancement. `None` for other regions, and where no label is that core.
        label_of_holes: The label for holes: the lowest one that no region inside it has. `None`
            for an innermost region within another, whose holes are anatomy: ET surrounds necrosis.
    """

    region: Region
    parent: str | None
    label_if_removed: int
    label_if_too_little: int | None
    label_of_holes: int | None


def papers_rules(regions: Sequence[Region], *, fill_holes: bool = False) -> PostprocessingRules:
    """The sizes of the paper for all `regions`, or those that separate labels imply."""
    return PostprocessingRules(
        {region.name: PAPERS_SMALLEST_COMPONENT for region in nested_regions(regions)},
        PAPERS_SMALLEST_ENHANCING,
        fill_holes,
    )


def read_rules(path: Path) -> PostprocessingRules:
    """Read what `PostprocessingRules.write` wrote.

    Raises:
        UserError: The file is missing, or is no such file.
    """
    content = read_json(path)
    sizes: Any = content.get("smallest_component_voxels")
    smallest_enhancing: Any = content.get("smallest_enhancing_voxels")
    fill_holes = content.get("fill_holes")
    if (
        not isinstance(sizes, dict)
        or not all(
            type(size) is int and size >= 0 for size in (smallest_enhancing, *sizes.values())
        )
        or not isinstance(fill_holes, bool)
    ):
        raise UserError(
            f"{path} was not written by `s2ca postprocess --fit`: expected whole numbers of 0 or "
            "more in `smallest_component_voxels`, by region, and `smallest_enhancing_voxels`, and "
            f"true or false in `fill_holes`, found {sizes!r}, {smallest_enhancing!r} and "
            f"{fill_holes!r}"
        )
    return PostprocessingRules(sizes, smallest_enhancing, fill_holes)


def nest(regions: Sequence[Region]) -> list[NestedRegion]:
    """The regions from the outermost to the innermost, each with its place.

    Separate labels are taken as the regions that they imply (`nested_regions`): so a small
    component of the core within oedema becomes oedema, and no hole.
    """
    declared, regions = tuple(regions), nested_regions(regions)
    # ET last among regions of one label
    ordered = sorted(regions, key=lambda region: (-len(region.labels), region.name == ENHANCING))
    nested = []
    for region in ordered:
        labels = set(region.labels)
        around = [other for other in ordered if set(other.labels) > labels]
        parent = min(around, key=lambda other: len(other.labels), default=None)
        removed = min(set(parent.labels) - labels) if parent is not None else 0
        inside = [set(other.labels) for other in ordered if set(other.labels) < labels]
        own = labels.difference(*inside)
        innermost = parent is not None and not inside
        # separate labels imply TC around ET only where one is the core without enhancement
        has_core = parent is not None and (regions == declared or parent.name == CORE)
        nested.append(
            NestedRegion(
                region=region,
                parent=parent.name if parent else None,
                label_if_removed=removed,
                label_if_too_little=removed if region.name == ENHANCING and has_core else None,
                label_of_holes=min(own) if own and not innermost else None,
            )
        )
    return nested


def check_rules(rules: PostprocessingRules, regions: Sequence[Region]) -> None:
    """Refuse rules that regions have no place for.

    Raises:
        UserError: The rules name a region that is missing, or ET of too few voxels has nothing
            that it could become.
    """
    nested = nest(regions)
    names = [place.region.name for place in nested]
    if not set(rules.smallest_component) <= set(names):
        raise UserError(
            f"the rules are for the regions {', '.join(rules.smallest_component)}, the dataset "
            f"has {', '.join(names)}; fit them on this dataset's own predictions"
        )
    if rules.smallest_enhancing > 0 and any(
        place.region.name == ENHANCING and place.label_if_too_little is None for place in nested
    ):
        raise UserError(
            f"ET of fewer than {rules.smallest_enhancing} voxels would become the core without "
            f"enhancement, which is not among {', '.join(region.name for region in regions)}; "
            "--apply rules with `smallest_enhancing_voxels` 0, as --fit gives them for these labels"
        )


def postprocess(
    labels: np.ndarray, rules: PostprocessingRules, *, regions: Sequence[Region]
) -> np.ndarray:
    """Apply the rules to one segmentation.

    Args:
        labels: Integer labels of shape `(H, W, D)`; left as they are.
        rules: What to do.
        regions: The regions or separate labels of the dataset; the names in `rules` are theirs, or
            those of the regions that the labels imply.

    Returns:
        New labels of the same shape and dtype.
    """
    whole = labels.copy()
    labels = whole[bounding_box(whole != 0)]
    nested = nest(regions)
    for place in reversed(nested):
        smallest = rules.smallest_component.get(place.region.name, 0)
        if smallest > 1:
            mask = np.ascontiguousarray(place.region.mask(labels))
            kept = cc3d.dust(mask, threshold=smallest, connectivity=26, binary_image=True)
            labels[mask & (kept == 0)] = place.label_if_removed
    for place in nested:
        if place.label_if_too_little is not None and rules.smallest_enhancing > 0:
            mask = place.region.mask(labels)
            if np.count_nonzero(mask) < rules.smallest_enhancing:
                labels[mask] = place.label_if_too_little
    if rules.fill_holes:
        for place in nested:
            if place.label_of_holes is not None:
                _fill_holes(labels, place)
    return whole


def _fill_holes(labels: np.ndarray, place: NestedRegion) -> None:
    """Give the voxels that a region encloses on all sides its own label, in place."""
    outside = np.pad(~place.region.mask(labels), 1, constant_values=True)
    components = cc3d.connected_components(outside, connectivity=6)
    holes = (components != components[0, 0, 0])[1:-1, 1:-1, 1:-1] & outside[1:-1, 1:-1, 1:-1]
    if place.parent is None:
        # another region's label within this one is no hole
        holes &= labels == 0
    labels[holes] = place.label_of_holes
