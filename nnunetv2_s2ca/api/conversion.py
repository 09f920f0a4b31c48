"""Check, convert, split and export BraTS data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from nnunetv2_s2ca.api.logger import report
from nnunetv2_s2ca.brats.editions import edition_named
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.dataset_conversion import check as checking
from nnunetv2_s2ca.dataset_conversion import convert as converting
from nnunetv2_s2ca.dataset_conversion import export as exporting
from nnunetv2_s2ca.dataset_conversion import splits as splitting
from nnunetv2_s2ca.dataset_conversion.references import (
    references_in_folder,
    references_of_dataset,
)


@dataclass(frozen=True)
class CheckReport:
    """The findings of `check`.

    Attributes:
        cases: Number of cases.
        problems: Case identifier → what is wrong with the case; invalid cases only.
        table: The report as text.
    """

    cases: int
    problems: dict[str, tuple[str, ...]]
    table: str

    def __str__(self) -> str:
        return self.table


@dataclass(frozen=True)
class Splits:
    """Folds that were written.

    Attributes:
        path: nnU-Net's `splits_final.json`.
        table: What each fold holds, as text.
    """

    path: Path
    table: str

    def __str__(self) -> str:
        return f"{self.table}\nwrote {self.path}"


def check(
    edition: str, source: str | PathLike[str], *, deep: bool = True, processes: int | None = None
) -> CheckReport:
    """Read every case of a BraTS download and report what is wrong; nothing is written.

    Args:
        edition: Such as "brats2019".
        source: Folder of the unzipped download.
        deep: Read every voxel; without it, only headers and segmentations.
        processes: Worker processes; all cores if None.

    Raises:
        UserError: The edition is unknown, or the folder holds no case of it.
    """
    known = edition_named(edition)
    folder = Path(source)
    checked = checking.check_cases(known, folder, processes=processes, deep=deep)
    return CheckReport(
        cases=len(checked),
        problems={
            item.case.identifier: tuple(item.case.problems)
            for item in checked
            if item.case.problems
        },
        table=checking.describe(known, checked, source=folder),
    )


def convert(
    edition: str,
    source: str | PathLike[str],
    *,
    dataset_id: int | None = None,
    name: str | None = None,
    channels: Sequence[str] | None = None,
    link: bool = False,
    deep: bool = False,
    skip_invalid: bool = False,
    overwrite: bool = False,
    processes: int | None = None,
) -> converting.Conversion:
    """Write a BraTS download to nnUNet_raw as a dataset, which appears once it is complete.

    An interrupted conversion resumes with the same arguments, or starts again if the source has
    changed.

    Args:
        edition: Such as "brats2019".
        source: Folder of the unzipped download.
        dataset_id: nnU-Net's id; the edition's own if None.
        name: Name of the dataset, after the id; the edition's own if None.
        channels: The sequences to take, such as `["t1ce", "flair"]`; all if None.
        link: Refer to the images where they are, and write labels only.
        deep: With `link`, read every voxel of the images; a copy always does.
        skip_invalid: Skip invalid cases and list them in `s2ca_skipped.txt`.
        overwrite: Replace an existing dataset.
        processes: Worker processes; all cores if None.

    Raises:
        UserError: Something is wrong with the source or the target; nothing is left behind.
    """
    options = converting.Options(
        dataset_id=dataset_id,
        name=name,
        link=link,
        deep=deep,
        overwrite=overwrite,
        skip_invalid=skip_invalid,
    )
    known = edition_named(edition)
    if channels is not None:
        known = known.with_channels(channels)
    return converting.convert(known, Path(source), options, processes=processes, say=report)


def write_splits(
    dataset_id: int, *, folds: int = 5, seed: int = splitting.SEED, overwrite: bool = False
) -> Splits:
    """Write patient-disjoint folds to nnU-Net's `splits_final.json`.

    Args:
        dataset_id: Id of a dataset that `convert` wrote.
        folds: Number of folds.
        seed: Seed of the shuffling.
        overwrite: Replace other folds.

    Raises:
        UserError: There are fewer patients than folds, the dataset's cases are no longer those of
            the conversion, other folds exist, or writing fails.
    """
    return Splits(*splitting.write_splits(dataset_id, folds=folds, seed=seed, overwrite=overwrite))


def export(
    dataset: int | str | PathLike[str] | None,
    predictions: str | PathLike[str],
    output: str | PathLike[str],
    *,
    edition: str | None = None,
    like: str | PathLike[str] | None = None,
    allow_unknown: bool = False,
    processes: int | None = None,
) -> exporting.Export:
    """Write predictions as the challenge expects them: its labels, names and geometry.

    The cases are those of a dataset, or, where there is none, of a folder of images.

    Args:
        dataset: nnU-Net's id of the dataset, or its folder in nnUNet_raw; None with `like`.
        predictions: Folder of nnU-Net's predictions.
        output: Folder for the files, new or empty.
        edition: With `like`, the edition, such as "brats2019".
        like: Folder of the images that were predicted, named as nnU-Net or the edition names them.
        allow_unknown: Also export cases that the images lack, in their own geometry.
        processes: Worker processes; all cores if None.

    Raises:
        UserError: A prediction is damaged, belongs to no case, or differs in geometry; or both or
            neither of dataset and images are named. Nothing is written.
    """
    if dataset is not None and like is None and edition is None:
        known = dataset if isinstance(dataset, int) else Path(dataset)
        references = references_of_dataset(known)
    elif dataset is None and like is not None and edition is not None:
        references = references_in_folder(Path(like), edition_named(edition))
    else:
        raise UserError(
            "export needs to know the images: name either a dataset (`dataset`), or the edition "
            "and the folder of its images (`edition`, `like`)"
        )
    return exporting.export(
        references,
        Path(predictions),
        Path(output),
        processes=processes,
        allow_unknown=allow_unknown,
        say=report,
    )
