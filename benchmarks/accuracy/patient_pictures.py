"""Slices of the best, the median and the worst test patient, truth beside predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.accuracy.experiment import TEST_IDS, patients_folder
from benchmarks.accuracy.results import MEAN, RowResult
from benchmarks.accuracy.running import predictions_folder
from nnunetv2_s2ca.demo.picture import read_case
from nnunetv2_s2ca.reporting.slices import draw_slices


def draw_test_patients(rows: Mapping[str, RowResult], work: Path, output: Path) -> bool:
    """Draw three patients, chosen by the first row's Dice; False if its predictions are missing.

    Args:
        rows: Rows by column heading.
        work: The experiment's folder.
        output: PNG file to write.
    """
    ranked = ranked_patients(next(iter(rows.values())))
    if not ranked:
        return False
    chosen = {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}
    brats = patients_folder(work, TEST_IDS["first"])
    patients = []
    for which, case in chosen.items():
        predictions = {
            heading: path for heading, row in rows.items() if (path := _prediction(row, work, case))
        }
        if next(iter(rows)) not in predictions or not brats.is_dir():
            return False
        patients.append(replace(read_case(brats, predictions), name=f"{which}: {case}"))
    draw_slices(patients, output)
    return True


def ranked_patients(row: RowResult) -> list[str]:
    """The test patients from the lowest to the highest mean Dice."""
    dice = row.dice("test", MEAN)
    return sorted(dice, key=lambda case: (dice[case], case))


def _prediction(row: RowResult, work: Path, case: str) -> Path | None:
    """The prediction of a row's first seed."""
    for seed in row.seeds("test")[:1]:
        path = predictions_folder(work, row.name, seed) / f"{case}.nii.gz"
        if path.exists():
            return path
    return None
