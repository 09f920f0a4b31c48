"""The rules applied to a folder of predictions."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_output_folder
from nnunetv2_s2ca.core.workers import map_cases
from nnunetv2_s2ca.evaluation.cohort import describe_troubles
from nnunetv2_s2ca.evaluation.regions import LabelScheme
from nnunetv2_s2ca.evaluation.segmentations import find_segmentations, read_labels
from nnunetv2_s2ca.postprocessing.rules import PostprocessingRules, check_rules, postprocess

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
) -> Applied:
    """Write the post-processed predictions of `source` to `target`, under the same names.

    Args:
        source: Folder of predictions.
        target: Another folder; made if missing.
        rules: What to do.
        scheme: Regions and labels of the predictions.
        processes: How many cases to work on at a time.
        overwrite: Replace files of the same names in `target`.

    Raises:
        UserError: The folders are one, files exist, the labels have no place for the rules, or
            files are damaged or hold unknown labels. All such files are named, and nothing is
            written.
    """
    check_output_folder(target)
    if source.resolve() == target.resolve():
        raise UserError(f"{target} holds the input; name another folder for the output")
    check_rules(rules, scheme.regions)
    paths = list(find_segmentations(source).values())
    existing = [path.name for path in paths if (target / path.name).exists()]
    if existing and not overwrite:
        raise UserError(f"{target / existing[0]} exists; --overwrite replaces it")
    # in the target's own file system, so that the finished files need only be renamed
    nearest = next(place for place in (target, *target.parents) if place.is_dir())
    with tempfile.TemporaryDirectory(prefix=".s2ca_", dir=nearest) as name:
        temporary = Path(name)
        found = map_cases(
            _Application(temporary, rules, scheme), paths, processes=processes, title="postprocess"
        )
        troubles = sorted(outcome for outcome in found if isinstance(outcome, str))
        if troubles:
            raise UserError(describe_troubles(troubles, "nothing is written"))
        for companion in COMPANIONS:
            if (source / companion).is_file():
                shutil.copyfile(source / companion, temporary / companion)
        target.mkdir(parents=True, exist_ok=True)
        for path in temporary.iterdir():
            path.replace(target / path.name)
    return Applied(len(found), sum(map(bool, found)))


@dataclass(frozen=True)
class _Application:
    """Post-processes a file; a class, since workers that are started afresh need it pickled.

    Returns whether the labels have changed, or what is wrong with the file.
    """

    target: Path
    rules: PostprocessingRules
    scheme: LabelScheme

    def __call__(self, path: Path) -> bool | str:
        try:
            labels, image = read_labels(path)
            self.scheme.check(labels, path)
        except UserError as error:
            return str(error)
        cleaned = postprocess(labels, self.rules, regions=self.scheme.regions)
        nib.save(nib.Nifti1Image(cleaned, image.affine, image.header), self.target / path.name)
        return not np.array_equal(cleaned, labels)
