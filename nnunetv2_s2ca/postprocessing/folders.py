"""Apply the rules to a folder of predictions."""

from __future__ import annotations

import filecmp
import shutil
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunetv2_s2ca.brats.regions import LabelScheme
from nnunetv2_s2ca.core.added_files import added_files
from nnunetv2_s2ca.core.files import check_output_folder
from nnunetv2_s2ca.core.folders import check_apart
from nnunetv2_s2ca.evaluation.attempts import all_results, attempt_cases
from nnunetv2_s2ca.evaluation.segmentations import find_segmentations, read_labels
from nnunetv2_s2ca.postprocessing.rules import PostprocessingRules, check_rules, postprocess

# nnU-Net's files beside predictions, which later commands look for
COMPANIONS = ("dataset.json", "plans.json")


def postprocess_folder(
    source: Path,
    target: Path,
    *,
    rules: PostprocessingRules,
    scheme: LabelScheme,
    processes: int | None = None,
    overwrite: bool = False,
) -> list[bool]:
    """Write the post-processed predictions of `source` to `target`, under the same names.

    nnU-Net's `dataset.json` and `plans.json` are copied. Either all files appear at once, or none.

    Args:
        source: Folder of predictions.
        target: Another folder; created if missing.
        rules: The rules to apply.
        scheme: Regions and labels of the predictions.
        processes: Worker processes; all cores if None.
        overwrite: Replace files of the same names in `target`, and no others.

    Returns:
        For each file, whether it differs from the input.

    Raises:
        UserError: The folders overlap, files exist, `target` cannot be written, the rules do not
            fit the labels, or files are damaged or hold unknown labels. All such files are named,
            and nothing is written.
    """
    check_output_folder(target)
    check_apart(target, source)
    check_rules(rules, scheme.regions)
    paths = list(find_segmentations(source).values())
    companions = [
        source / name
        for name in COMPANIONS
        if (source / name).is_file() and not _is_same_file(source / name, target / name)
    ]
    names = [path.name for path in (*paths, *companions)]
    with added_files(target, names, overwrite=overwrite) as folder:
        apply = partial(_postprocess_file, target=folder, rules=rules, scheme=scheme)
        outcomes = attempt_cases(apply, paths, processes=processes, title="postprocess")
        changed = all_results(outcomes)
        for companion in companions:
            shutil.copyfile(companion, folder / companion.name)
    return changed


def _is_same_file(first: Path, second: Path) -> bool:
    """Whether the second file exists and has the content of the first."""
    return second.is_file() and filecmp.cmp(first, second, shallow=False)


def _postprocess_file(
    path: Path, *, target: Path, rules: PostprocessingRules, scheme: LabelScheme
) -> bool:
    """Write a post-processed file to the folder `target`; return whether its labels changed."""
    labels, image = read_labels(path)
    scheme.check(labels, path)
    cleaned = postprocess(labels, rules, regions=scheme.regions)
    nib.save(nib.Nifti1Image(cleaned, image.affine, image.header), target / path.name)
    return not np.array_equal(cleaned, labels)
