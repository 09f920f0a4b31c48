"""`s2ca evaluate --edition`: the challenge's own labels, and the challenge's own program."""

from __future__ import annotations

import csv
import sys

import numpy as np
import pytest

from nnunetv2_s2ca.cli import main
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.evaluation.official import config_of
from tests.evaluation.shapes import ball, write_labels

SHAPE = (24, 22, 20)


def folders(tmp_path, labels: tuple[int, ...], case: str):
    """Nested balls of the given labels, from the outermost, and the same shifted."""
    reference = np.zeros(SHAPE, np.uint8)
    for label, radius in zip(labels, (8, 6, 4, 2), strict=False):
        reference[ball(SHAPE, (11, 11, 10), radius)] = label
    write_labels(reference, tmp_path / "ref" / f"{case}.nii.gz")
    write_labels(np.roll(reference, 1, 0), tmp_path / "pred" / f"{case}.nii.gz")
    return tmp_path / "ref", tmp_path / "pred"


def evaluate(paths, edition: str, *options: str) -> int:
    reference, prediction = paths
    return main(
        [
            *("evaluate", "--ref", str(reference), "--pred", str(prediction)),
            *("--edition", edition, "-np", "1", *options),
        ]
    )


def rows_of(prediction):
    with (prediction / "s2ca_evaluation/metrics.csv").open() as lines:
        return {row["region"]: row for row in csv.DictReader(lines)}


@pytest.mark.parametrize(
    ("edition", "labels", "regions", "rules"),
    [
        ("brats2019", (2, 1, 4), {"WT", "TC", "ET"}, "classic"),
        ("brats2021", (2, 1, 4), {"WT", "TC", "ET"}, "classic"),
        ("brats2023-gli", (2, 1, 3), {"WT", "TC", "ET"}, "lesionwise-2023"),
        ("brats2023-met", (2, 1, 3), {"WT", "TC", "ET"}, "lesionwise-2023"),
        (
            "brats2024-gli",
            (2, 1, 3, 4),
            {"WT", "TC", "ET", "RC", "NETC", "SNFH"},
            "lesionwise-2023",
        ),
        (
            "brats2024-ped",
            (4, 2, 1, 3),
            {"WT", "TC", "ET", "CC", "NETC", "ED"},
            "lesionwise-2023",
        ),
        ("brats2024-men-rt", (1,), {"GTV"}, "lesionwise-2023"),
        ("brats2025-met", (2, 1, 3, 4), {"WT", "TC", "ET", "RC"}, "brats-2026"),
        ("msd-task01", (1, 2, 3), {"WT", "TC", "ET", "ED", "NET"}, "classic"),
    ],
)
def test_each_edition_is_scored_in_its_own_labels_by_its_own_rules(
    tmp_path, edition, labels, regions, rules
):
    paths = folders(tmp_path, labels, "case")
    assert evaluate(paths, edition) == 0
    rows = rows_of(paths[1])
    assert rows.keys() == regions
    assert {row["rules"] for row in rows.values()} == {rules}
    volumes = {region: float(row["reference_ml"]) for region, row in rows.items()}
    if {"WT", "TC", "ET"} <= regions:
        assert volumes["WT"] > volumes["TC"] > volumes["ET"] > 0
    else:
        assert volumes["GTV"] > 0


def test_labels_of_another_edition_are_named(tmp_path, capsys):
    paths = folders(tmp_path, (2, 1, 3), "BraTS19_A_1")
    assert evaluate(paths, "brats2019") == 1
    message = capsys.readouterr().err
    assert "label 3" in message
    assert "[0, 1, 2, 4]" in message


def test_an_unknown_edition_is_named(tmp_path, capsys):
    assert evaluate(folders(tmp_path, (2, 1, 4), "a"), "brats1999") == 1
    assert "brats1999" in capsys.readouterr().err


def test_the_official_program_writes_its_own_table(tmp_path):
    pytest.importorskip("brats_evaluation")
    paths = folders(tmp_path, (2, 1, 3), "BraTS-GLI-00001-000")
    assert evaluate(paths, "brats2023-gli", "--rules", "brats-2026", "--official") == 0
    with (paths[1] / "s2ca_evaluation/official.csv").open() as lines:
        official = next(csv.DictReader(lines))
    for region, row in rows_of(paths[1]).items():
        theirs = float(official[f"global_dsc_{region.lower()}"])
        assert float(row["dice"]) == pytest.approx(theirs, abs=1e-6)


def test_what_the_official_program_cannot_do_is_said_before_anything_is_scored(
    tmp_path, monkeypatch, capsys
):
    paths = folders(tmp_path, (2, 1, 3), "a")
    assert evaluate(paths, "msd-task01", "--official") == 1
    assert "no settings for msd-task01" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "brats_evaluation", None)
    assert evaluate(paths, "brats2023-gli", "--official") == 1
    assert "pip install nnunetv2-s2ca[official]" in capsys.readouterr().err
    assert not (paths[1] / "s2ca_evaluation").exists()


def test_official_needs_an_edition(tmp_path, capsys):
    reference, prediction = folders(tmp_path, (2, 1, 3), "a")
    assert main(["evaluate", "--ref", str(reference), "--pred", str(prediction), "--official"]) == 1
    assert "--edition" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("edition", "config"),
    [
        ("brats2023-gli", "GoAT"),
        ("brats2024-gli", "gli"),
        ("brats2023-ped", "GoAT"),
        ("brats2023-ssa", "GoAT"),
        ("brats2023-men", "MenPre"),
        ("brats2024-men-rt", "MenRT"),
        ("brats2025-met", "mets"),
        ("brats2024-ped", "ped"),
    ],
)
def test_the_official_settings_follow_from_the_edition(edition, config):
    assert config_of(edition) == config


@pytest.mark.parametrize("edition", ["brats2019", "msd-task01"])
def test_editions_that_the_official_program_does_not_know_are_refused(edition):
    with pytest.raises(UserError, match=edition):
        config_of(edition)
