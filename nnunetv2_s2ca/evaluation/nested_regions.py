"""The regions of BraTS that a dataset of separate labels implies."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nnunetv2_s2ca.brats.regions import Region

# Names of tumour parts in datasets with separate labels: those of the BraTS editions and the MSD,
# and the region names, each for the region without the smaller ones. The first match decides,
# since SNFH is the "surrounding non-enhancing FLAIR hyperintensity".
_OEDEMA = re.compile(r"o?edema|hyperintens|^(ed|snfh|wt)\b", re.IGNORECASE)
_CORE = re.compile(r"non[-_ ]?enhanc|necro|cyst|^(ncr|netc?|cc|tc)\b", re.IGNORECASE)
_ENHANCING = re.compile(r"enhanc|^et\b", re.IGNORECASE)


def nested_regions(regions: Sequence[Region]) -> tuple[Region, ...]:
    """WT, TC and ET in place of separate labels for parts of a tumour.

    WT is the union of oedema, core and enhancing tumour; TC is the union of the last two. Other
    labels, such as a resection cavity, are unchanged, as are the cystic component, which is a
    BraTS region within TC, and regions of several labels.

    Args:
        regions: The regions or labels that `dataset.json` declares.
    """
    if any(len(region.labels) > 1 for region in regions):
        return tuple(regions)
    parts: dict[re.Pattern[str], list[int]] = {_OEDEMA: [], _CORE: [], _ENHANCING: []}
    others = []
    for region in regions:
        part = next((part for part in parts if part.search(region.name)), None)
        if part is not None:
            parts[part] += region.labels
        if part is None or region.name == "CC":
            others.append(region)
    oedema, core, enhancing = parts.values()
    if sum(map(bool, parts.values())) < 2:
        return tuple(regions)
    nested = []
    if oedema:
        nested.append(Region("WT", tuple(sorted(oedema + core + enhancing))))
    if core:
        nested.append(Region("TC", tuple(sorted(core + enhancing))))
    if enhancing:
        nested.append(Region("ET", tuple(sorted(enhancing))))
    return (*nested, *others)
