"""The regions of BraTS that a dataset of separate labels implies."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nnunetv2_s2ca.brats.regions import Region

# What datasets of separate labels call the parts of a tumour: the editions of BraTS, the MSD, and
# the regions' own names where each stands for what the smaller ones leave of it. The first that
# matches decides, since SNFH is the "surrounding non-enhancing FLAIR hyperintensity".
_OEDEMA = re.compile(r"o?edema|hyperintens|^(ed|snfh|wt)\b", re.IGNORECASE)
_CORE = re.compile(r"non[-_ ]?enhanc|necro|cyst|^(ncr|netc?|cc|tc)\b", re.IGNORECASE)
_ENHANCING = re.compile(r"enhanc|^et\b", re.IGNORECASE)


def nested_regions(regions: Sequence[Region]) -> tuple[Region, ...]:
    """WT, TC and ET in place of separate labels that are parts of a tumour.

    WT is the union of oedema, core and enhancing tumour, and TC that of the last two. Labels with
    other names, such as a resection cavity, stay as they are, and so does the cystic component,
    which is a region of BraTS within TC. Regions of several labels stay as they are.

    Args:
        regions: What `dataset.json` declares.
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
