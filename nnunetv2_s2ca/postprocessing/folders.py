"""The rules applied to a folder of predictions."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from nnunetv2_s2ca.errors import UserError
from nnunetv2_s2ca.evaluation.cohort import map_in_processes
from nnunetv2_s2ca.evaluation.regions import LabelScheme
from nnunetv2_s2ca.evaluation.segmentations import find_segmentations, read_labels
from nnunetv2_s2ca.files import whole_file
from nnunetv2_s2ca.postprocessing.rules import PostprocessingRules, postprocess

# What nnU-Net leaves beside predictions, and what later commands look for
COMPANIONS = ("dataset.json", "plans.json")


@dataclass(frozen=True)
class Applied:
    """What became of the cases of a folder.

    Attributes:
        cases: Number of files written.
        changed: Number of those that differ from the input.
    """

    cases: int
    changed: int


def postprocess_folder(
    source: Path,
    target: Path,
    *,
    rules: PostprocessingRules,
    scheme: LabelScheme,
    processes: int = 1,
    overwrite: bool = False,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] | None = None,
) -> Applied:
    """Write the post-processed predictions of `source` to `target`, under the same names.

    Args:
        source: Folder of predictions.
        target: Another folder; made if missing.
        rules: What to do.
        scheme: Regions and labels of the predictions.
        processes: How many cases to work on at a time.
        overwrite: Replace files of the same names in `target`.
        progress: Wraps the finished cases, given their number.

    Raises:
        UserError: The folders are one, files exist, the rules name a region that the labels lack,
            a file is damaged or holds an unknown label.
    """
    if source.resolve() == target.resolve():
        raise UserError(f"{target} holds the input; name another folder for the output")
    names = {region.name for region in scheme.regions}
    if set(rules.smallest_component) - names:
        raise UserError(
            f"the rules are for the regions {', '.join(rules.smallest_component)}, the labels "
            f"have {', '.join(names)}; fit them on this dataset's own predictions"
        )
    paths = list(find_segmentations(source).values())
    existing = [path.name for path in paths if (target / path.name).exists()]
    if existing and not overwrite:
        raise UserError(f"{target / existing[0]} exists; --overwrite replaces it")
    outcomes: Iterable[tuple[Path, bool]] = map_in_processes(
        _Application(target, rules, scheme), paths, processes=processes
    )
    if progress is not None:
        outcomes = progress(outcomes, len(paths))
    changed = [was_changed for _, was_changed in outcomes]
    for name in COMPANIONS:
        if (source / name).is_file():
            with whole_file(target / name) as temporary:
                shutil.copyfile(source / name, temporary)
    return Applied(len(changed), sum(changed))


@dataclass(frozen=True)
class _Application:
    """Post-processes a file; a class, since workers that are started afresh need it pickled."""

    target: Path
    rules: PostprocessingRules
    scheme: LabelScheme

    def __call__(self, path: Path) -> bool:
        labels, image = read_labels(path)
        self.scheme.check(labels, path)
        cleaned = postprocess(labels, self.rules, regions=self.scheme.regions)
        with whole_file(self.target / path.name) as temporary:
            nib.save(nib.Nifti1Image(cleaned, image.affine, image.header), temporary)
        return not np.array_equal(cleaned, labels)
