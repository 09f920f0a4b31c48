"""The rules: remove small components, relabel too little enhancing tumour, fill holes."""

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

# The sizes in voxels of Zhou et al., IEEE TMI 2024, as in the authors' program
PAPERS_SMALLEST_COMPONENT = 10
PAPERS_SMALLEST_ENHANCING = 400
CORE, ENHANCING = "TC", "ET"

DEFAULT_FILE = "s2ca_postprocessing.json"  # in the folder of a trained model


@dataclass(frozen=True)
class PostprocessingRules:
    """Sizes in voxels below which structures count as noise; 0 disables a rule.

    Attributes:
        smallest_component: Minimum size of a component, by region.
        smallest_enhancing: Minimum total size of ET after that.
        fill_holes: Fill holes that a region encloses on all sides.
    """

    smallest_component: Mapping[str, int] = field(default_factory=dict)
    smallest_enhancing: int = 0
    fill_holes: bool = False

    def write(self, path: Path, **more: Any) -> None:
        """Write the rules as JSON, with `more` entries on their origin."""
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
        parent: Name of the smallest region that contains it; `None` for an outermost region.
        label_if_removed: New label of removed voxels: the lowest label of the parent that is
            outside the region (ET becomes non-enhancing core, TC becomes oedema), or background.
        label_if_too_little: New label of ET if its total is too small: the non-enhancing core.
            `None` for other regions, and if there is no such label.
        label_of_holes: Label for holes: the lowest label that no inner region has. `None` for an
            innermost region within another, where holes are anatomy: ET surrounds necrosis.
    """

    region: Region
    parent: str | None
    label_if_removed: int
    label_if_too_little: int | None
    label_of_holes: int | None


def papers_rules(regions: Sequence[Region], *, fill_holes: bool = False) -> PostprocessingRules:
    """The paper's sizes for `regions`, or for the regions that separate labels imply."""
    return PostprocessingRules(
        {region.name: PAPERS_SMALLEST_COMPONENT for region in nested_regions(regions)},
        PAPERS_SMALLEST_ENHANCING,
        fill_holes,
    )


def read_rules(path: Path) -> PostprocessingRules:
    """Read a file written by `PostprocessingRules.write`.

    Raises:
        UserError: The file is missing or invalid.
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

    Separate labels are replaced by the regions that they imply (`nested_regions`), so a small
    component of the core within oedema becomes oedema instead of a hole.
    """
    declared, regions = tuple(regions), nested_regions(regions)
    # ET last among regions with the same number of labels
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
        # separate labels imply TC around ET only if one of them is the non-enhancing core
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
    """Refuse rules that do not fit the regions.

    Raises:
        UserError: The rules name a missing region, or no label can replace ET of too few voxels.
    """
    nested = nest(regions)
    names = [place.region.name for place in nested]
    if not set(rules.smallest_component) <= set(names):
        raise UserError(
            f"the rules are for the regions {', '.join(rules.smallest_component)}, but the dataset "
            f"has {', '.join(names)}; fit the rules on this dataset's own predictions"
        )
    if rules.smallest_enhancing > 0 and any(
        place.region.name == ENHANCING and place.label_if_too_little is None for place in nested
    ):
        raise UserError(
            f"ET of fewer than {rules.smallest_enhancing} voxels would become non-enhancing core, "
            f"which is not among {', '.join(region.name for region in regions)}; "
            "--apply rules with `smallest_enhancing_voxels` 0, as --fit gives them for these labels"
        )


def postprocess(
    labels: np.ndarray, rules: PostprocessingRules, *, regions: Sequence[Region]
) -> np.ndarray:
    """Apply the rules to one segmentation.

    Args:
        labels: Integer labels of shape `(H, W, D)`; not modified.
        rules: The rules to apply.
        regions: The regions or separate labels of the dataset; `rules` uses their names, or those
            of the regions that the labels imply.

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
    """Fill the holes that a region encloses on all sides, in place."""
    outside = np.pad(~place.region.mask(labels), 1, constant_values=True)
    components = cc3d.connected_components(outside, connectivity=6)
    holes = (components != components[0, 0, 0])[1:-1, 1:-1, 1:-1] & outside[1:-1, 1:-1, 1:-1]
    if place.parent is None:
        # another region's label within this one is not a hole
        holes &= labels == 0
    labels[holes] = place.label_of_holes
