"""Detect nnU-Net's labels where an edition's own labels are expected."""

from __future__ import annotations

from pathlib import Path

from nnunetv2_s2ca.brats.regions import LabelScheme, scheme_of_dataset
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json
from nnunetv2_s2ca.evaluation.nested_regions import nested_regions

# nnU-Net's folders of segmentations whose dataset.json lies one level above
_FOLDERS_OF_A_DATASET = ("labelsTr", "labelsTs", "gt_segmentations")


def check_labels_are_of_edition(folder: Path, *, edition: str, scheme: LabelScheme) -> None:
    """Refuse segmentations that use nnU-Net's labels according to the `dataset.json` beside them.

    In most editions nnU-Net's labels differ, with 1 and 2 exchanged: scored as they are, they
    would silently give wrong numbers.

    Args:
        folder: Folder of segmentations.
        edition: Name of the edition whose labels are expected.
        scheme: The edition's regions.

    Raises:
        UserError: A `dataset.json` declares other labels for a region, or none of the edition's
            regions.
    """
    dataset_json = _dataset_json_of(folder)
    if dataset_json is None:
        return
    expected = {region.name: set(region.labels) for region in scheme.regions}
    declared = nested_regions(scheme_of_dataset(dataset_json).regions)
    common = [region for region in declared if region.name in expected]
    if common and all(set(region.labels) == expected[region.name] for region in common):
        return
    raise UserError(
        f"{folder} holds nnU-Net's labels according to {dataset_json}, not those of {edition}. "
        "Leave out `edition` to score them as they are, or export the predictions first (s2ca "
        "export) and score them against the challenge's own files"
    )


def _dataset_json_of(folder: Path) -> Path | None:
    """nnU-Net's `dataset.json` for the segmentations in `folder`, if any."""
    folder = folder.absolute()
    candidates = [folder / "dataset.json"]
    if folder.name in _FOLDERS_OF_A_DATASET:
        candidates.append(folder.parent / "dataset.json")
    if folder.name == "validation" and folder.parent.name.startswith("fold_"):
        candidates.append(folder.parents[1] / "dataset.json")
    for candidate in candidates:
        if candidate.is_file():
            labels = read_json(candidate).get("labels")
            # the MSD's own file, with the original labels, maps numbers to names
            if not isinstance(labels, dict) or "background" in labels:
                return candidate
    return None
