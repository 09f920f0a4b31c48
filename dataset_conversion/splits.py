"""Patient-disjoint folds for the cross-validation: `s2ca splits`."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from nnunetv2_s2ca.brats.editions import Edition
from nnunetv2_s2ca.core.errors import UserError, disk_errors_named
from nnunetv2_s2ca.core.files import check_regular_file, write_text
from nnunetv2_s2ca.core.nifti import FILE_ENDINGS
from nnunetv2_s2ca.core.nnunet import (
    PREPROCESSED,
    RAW,
    check_id_is_free,
    find_dataset,
    nnunet_folder,
)
from nnunetv2_s2ca.dataset_conversion.record import RECORD, RecordedCase, read_record

SEED = 12345  # as in nnU-Net
FILE = "splits_final.json"


@disk_errors_named()
def write_splits(
    dataset_id: int, *, folds: int = 5, seed: int = SEED, overwrite: bool = False
) -> tuple[Path, str]:
    """Write patient-disjoint folds; arguments and errors are those of the public function.

    Returns:
        The file, and a table of what each fold holds.
    """
    dataset = find_dataset(dataset_id, RAW)
    path = nnunet_folder(PREPROCESSED) / dataset.name / FILE
    check_id_is_free(dataset.name)
    record = read_record(dataset)
    cases = {name: case for name, case in record.cases.items() if case.labels is not None}
    if not cases:
        raise UserError(
            f"{dataset / RECORD} has no case with a segmentation; convert training data"
        )
    _check_up_to_date(dataset, cases)
    patients = {name: case.patient for name, case in cases.items()}
    strata = {name: _stratum(case, record.edition) for name, case in cases.items()}
    splits = make_splits(patients, strata, folds=folds, seed=seed)
    content = json.dumps(splits, indent=4)
    if path.exists():
        check_regular_file(path)
        if path.read_bytes() != content.encode() and not overwrite:
            raise UserError(
                f"{path} holds other folds, which trainings may rely on; pass `overwrite=True` to "
                "replace it"
            )
    write_text(path, content)
    return path, _table(splits, patients, strata)


def make_splits(
    patients: dict[str, str], strata: dict[str, str], *, folds: int = 5, seed: int = SEED
) -> list[dict[str, list[str]]]:
    """Assign cases to patient-disjoint, stratified folds.

    Args:
        patients: Case → patient.
        strata: Case → stratum; each fold gets its share of each, as far as patients allow.
        folds: Number of folds.
        seed: Seed of the shuffling; the result does not depend on the order of the cases.

    Returns:
        nnU-Net's `train` and `val` of each fold.

    Raises:
        UserError: There are fewer patients than folds, fewer than two folds, or the seed is out of
            range.
    """
    if folds < 2:
        raise UserError(f"`folds` is {folds}; expected 2 or more")
    if not 0 <= seed < 2**32:
        raise UserError(f"`seed` is {seed}; expected 0 to {2**32 - 1}")
    names = sorted(patients)
    count = len(set(patients.values()))
    if count < 2:
        raise UserError(
            "all cases belong to one patient, who cannot be in several folds; train on all cases "
            "with `nnUNetv2_train … all`"
        )
    if count < folds:
        raise UserError(
            f"{count} patients cannot fill {folds} folds; pass `folds={count}`, or train on all "
            "cases with `nnUNetv2_train … all`"
        )
    if max(Counter(strata.values()).values()) < folds:
        strata = dict.fromkeys(names, "")  # no stratum is large enough to be in every fold
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # a stratum with fewer cases than folds is fine
        warnings.filterwarnings("ignore", message="The least populated class")
        parts = list(
            splitter.split(names, [strata[n] for n in names], [patients[n] for n in names])
        )
    if any(len(validation) == 0 for _, validation in parts) and len(set(strata.values())) > 1:
        # few patients with many cases each: the stratified splitter may leave a fold empty
        return make_splits(patients, dict.fromkeys(names, ""), folds=folds, seed=seed)
    return [
        {"train": [names[i] for i in training], "val": [names[i] for i in validation]}
        for training, validation in parts
    ]


def _check_up_to_date(dataset: Path, recorded: Collection[str]) -> None:
    """Refuse a dataset to which cases were added, or from which some were removed, by hand.

    nnU-Net would stop at folds with cases that are gone, and never train on those without a fold.
    """
    present = {
        path.name.removesuffix(".gz").removesuffix(".nii")
        for path in (dataset / "labelsTr").iterdir()
        if not path.name.startswith(".") and path.name.endswith(FILE_ENDINGS)
    }
    gone, added = sorted(set(recorded) - present), sorted(present - set(recorded))
    if gone or added:
        lists = [
            f"{what} {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
            for what, names in (("lacks", gone), ("also has", added))
            if names
        ]
        raise UserError(
            f"{dataset / 'labelsTr'} {' and '.join(lists)}, unlike the conversion's record "
            f"({RECORD}). Convert the changed download again, so that every case gets a fold"
        )


def _stratum(case: RecordedCase, edition: Edition) -> str:
    if case.grade:
        return case.grade
    enhancing = edition.regions.get("enhancing tumor", ())
    present = any(edition.labels[label] in enhancing for label in case.labels or ())
    return "with ET" if present else "without ET"


def _table(
    splits: list[dict[str, list[str]]], patients: dict[str, str], strata: dict[str, str]
) -> str:
    kinds = sorted(set(strata.values()))
    lines = ["  ".join(["fold", "train", "val", "patients", *kinds])]
    for number, split in enumerate(splits):
        counts = Counter(strata[name] for name in split["val"])
        cells = [number, len(split["train"]), len(split["val"])]
        cells += [len({patients[name] for name in split["val"]}), *(counts[k] for k in kinds)]
        widths = (4, 5, 3, 8, *map(len, kinds))
        lines.append("  ".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True)))
    return "\n".join(lines)
