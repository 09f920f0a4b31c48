"""What `s2ca evaluate` says of hostile inputs and outputs; it leaves no file behind."""

from __future__ import annotations

import csv
import gzip
import json
import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from isal import igzip

from nnunetv2_s2ca.cli import main
from tests.damaged_nifti import write_header
from tests.evaluation.shapes import write_labels
from tests.robustness.predictions import (
    LABELS,
    contents,
    run_limited,
    tumour,
    write_cases,
    write_dataset_json,
    write_predictions,
)
from tests.robustness.processes import let_go_on_without_a_worker, start_frozen

REGIONS = ("WT", "TC", "ET")


@pytest.fixture
def folders(tmp_path):
    return write_cases(tmp_path / "truth"), write_predictions(tmp_path / "predictions")


def arguments(folders, *options):
    reference, prediction = folders
    return ["evaluate", "--ref", reference, "--pred", prediction, *options]


def evaluate(folders, *options) -> int:
    return main([*map(str, arguments(folders, *options)), "-np", "1"])


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(
            json.dumps({"labels": LABELS | {"WT": [1, 2]}}),
            ("'whole tumor' and 'WT' both mean WT",),
            id="two names of one region",
        ),
        pytest.param(
            json.dumps({"labels": LABELS | {"background": 1}}),
            ("the label 0 for `background`, found 1",),
            id="background 1",
        ),
        pytest.param(
            json.dumps({"labels": LABELS | {"background": False}}),
            ("the label 0 for `background`",),
            id="background false",
        ),
        pytest.param("[" * 100_000 + "]" * 100_000, ("nested too deeply",), id="100 000 brackets"),
        pytest.param(
            f'{{"labels": {{"background": 0, "tumour": {"9" * 5001}}}}}',
            (),
            id="a label of 5001 digits",
        ),
        pytest.param(
            json.dumps({"labels": {"background": 0, "tumour": 10**12}}),
            ("1 to 65535", "1000000000000"),
            id="a label beyond nnU-Net's",
        ),
        pytest.param(
            json.dumps({"labels": {"background": 0, "x": list(range(10_000, 0, -1)) * 9 + [0]}}),
            ("'x'", "…"),
            id="90 000 labels",
        ),
        pytest.param(
            json.dumps({"labels": LABELS | {"ignore": 3}}),
            ("3 is both the `ignore` label and a label of 'whole tumor'",),
            id="the ignore label is also ET's",
        ),
        pytest.param(
            '{"labels": {"background": 0, "tum\\ud800our": 1}}', ("printed",), id="half a character"
        ),
        pytest.param(
            '{"labels": {"background": 0, "\\u001b[2J": 1}}', ("\\x1b",), id="terminal escapes"
        ),
        pytest.param("\xff\xfe{}", (), id="no JSON"),
    ],
)
def test_a_dataset_json_that_means_two_things_is_named(folders, capsys, text, words):
    (folders[1] / "dataset.json").write_text(text, encoding="utf-8")
    before = contents(folders[1])
    assert evaluate(folders) == 1
    message = capsys.readouterr().err
    assert "dataset.json" in message
    for word in words:
        assert word in message
    assert len(message) < 1000
    assert contents(folders[1]) == before


def test_a_dataset_json_in_utf_16_is_named(folders, capsys):
    path = folders[1] / "dataset.json"
    path.write_text(path.read_text(), encoding="utf-16")
    assert evaluate(folders) == 1
    assert "UTF-8" in capsys.readouterr().err


def no_spacing(path: Path) -> None:
    write_header(path, offset=80, value=np.array([np.nan], "<f4").tobytes())


def no_affine(path: Path) -> None:
    write_header(path, offset=280, value=np.full(12, np.nan, "<f4").tobytes())


@pytest.mark.parametrize("spoil", [no_spacing, no_affine], ids=lambda f: f.__name__)
def test_a_file_without_a_geometry_is_named(folders, capsys, spoil):
    for folder in folders:
        spoil(folder / "case_2.nii.gz")
    assert evaluate(folders) == 1
    message = capsys.readouterr().err
    assert "case_2.nii.gz" in message
    assert "finite" in message
    assert not (folders[1] / "s2ca_evaluation").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux'")
def test_an_output_that_cannot_be_written_is_named_before_anything_is_scored(
    folders, capsys, monkeypatch
):
    monkeypatch.setattr("nnunetv2_s2ca.evaluation.cohort.evaluate_case", None)
    assert evaluate(folders, "-o", "/proc/results") == 1
    assert "/proc/results cannot be written" in capsys.readouterr().err


def test_an_output_relative_to_a_folder_that_is_gone_is_named(
    folders, tmp_path, capsys, monkeypatch
):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert evaluate(folders, "-o", "results") == 1
    assert "results" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["metrics.csv", "summary.json"])
def test_a_folder_in_the_place_of_a_result_is_named(folders, tmp_path, capsys, name):
    (tmp_path / "out" / name).mkdir(parents=True)
    before = contents(tmp_path / "out")
    assert evaluate(folders, "-o", tmp_path / "out", "--overwrite") == 1
    assert f"{name} is a folder" in capsys.readouterr().err
    assert contents(tmp_path / "out") == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_disk_that_fills_up_leaves_the_results_as_they_were(folders, tmp_path, overwrite):
    output = tmp_path / "out"
    if overwrite:
        assert evaluate(folders, "-o", output) == 0
    before = contents(tmp_path)
    options = ["-o", output, "-np", "1", *(["--overwrite"] if overwrite else [])]
    run = run_limited("RLIMIT_FSIZE", 4096, *arguments(folders, *options))
    assert run.returncode == 1
    assert f"{output} cannot be written: File too large" in run.stderr
    assert "Traceback" not in run.stderr
    assert contents(tmp_path) == before


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory in use from /proc")
@pytest.mark.parametrize("processes", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_case_that_does_not_fit_into_memory_is_named(folders, processes):
    header = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4)).header
    header.set_data_shape((1000, 1000, 1000))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    piece = bytes(10**7)
    with igzip.open(folders[1] / "case_2.nii.gz", "wb", compresslevel=0) as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(100):
            file.write(piece)
    run = run_limited(
        "RLIMIT_AS", 600 * 10**6, *arguments(folders, "-np", processes, "--keep-going")
    )
    assert run.returncode == 1
    assert "case_2: needs more memory than there is" in run.stderr
    assert "Traceback" not in run.stderr
    assert {row["case"] for row in rows_of(folders[1] / "s2ca_evaluation")} == {
        "case_0",
        "case_1",
        "case_3",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_case_whose_name_is_no_utf_8_is_scored(folders, capfd):
    name = os.fsdecode(b"caf\xe9.nii.gz")
    for folder in folders:
        (folder / "case_2.nii.gz").rename(folder / name)
    assert evaluate(folders) == 0
    assert {row["case"] for row in rows_of(folders[1] / "s2ca_evaluation")} == {
        "caf\\udce9",
        "case_0",
        "case_1",
        "case_3",
    }
    (folders[0] / name).unlink()
    assert evaluate(folders, "--overwrite") == 1
    assert "no reference" in capfd.readouterr().err


def test_a_killed_worker_is_named_with_its_case(folders, tmp_path):
    frozen = start_frozen(*arguments(folders, "-o", tmp_path / "out"), "-np", 2)
    code, errors = let_go_on_without_a_worker(*frozen)
    assert code == 1
    assert "case_" in errors
    assert "was killed (SIGKILL)" in errors
    assert "Traceback" not in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions", "truth"]


# nnU-Net's labels 1, 2, 3 are the edition's 2, 1, 4 or 2, 1, 3
@pytest.mark.parametrize("edition", ["brats2019", "brats2023-gli", "brats2025-met"])
def test_predictions_in_nnunets_labels_are_not_scored_as_an_editions(folders, capsys, edition):
    assert evaluate(folders, "--edition", edition) == 1
    message = capsys.readouterr().err
    assert str(folders[1] / "dataset.json") in message
    assert "s2ca export" in message
    assert "--edition" in message
    assert not (folders[1] / "s2ca_evaluation").exists()


@pytest.mark.parametrize("place", ["labelsTr", "gt_segmentations", "fold_0/validation"])
def test_a_dataset_json_above_nnunets_own_folders_counts(tmp_path, capsys, place):
    exported = write_cases(tmp_path / "exported")
    nnunets = write_cases(tmp_path / "dataset" / place)
    write_dataset_json(tmp_path / "dataset/dataset.json", LABELS)
    for folders in ((exported, nnunets), (nnunets, exported)):
        assert evaluate(folders, "--edition", "brats2023-gli") == 1
        assert f"{nnunets} holds nnU-Net's labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("edition", "labels"),
    [
        ("msd-task01", LABELS),
        ("msd-task01", {"background": 0, "edema": 1, "non-enhancing": 2, "enhancing tumor": 3}),
        ("brats2023-gli", {"background": 0, "NETC": 1, "SNFH": 2, "ET": 3}),
        # of the MSD's own dataset.json
        ("msd-task01", {"0": "background", "1": "edema", "2": "non-enhancing", "3": "enhancing"}),
    ],
)
def test_a_dataset_json_of_the_editions_own_labels_is_no_obstacle(folders, edition, labels):
    write_dataset_json(folders[1] / "dataset.json", labels)
    assert evaluate(folders, "--edition", edition) == 0


def test_exported_predictions_beside_a_dataset_are_scored(folders, tmp_path):
    """A dataset.json one level above says nothing of a folder that is none of nnU-Net's."""
    (folders[1] / "dataset.json").rename(tmp_path / "dataset.json")
    assert evaluate(folders, "--edition", "brats2023-gli") == 0


def test_few_cases_are_reported_with_what_their_intervals_are_worth(tmp_path, capsys):
    for count, said in ((2, True), (3, True), (4, False)):
        folders = (
            write_cases(tmp_path / f"{count}/truth", count=count),
            write_predictions(tmp_path / f"{count}/predictions", count=count),
        )
        assert evaluate(folders) == 0
        assert ("is just their range" in capsys.readouterr().out) == said
        found = json.loads((folders[1] / "s2ca_evaluation/summary.json").read_text())
        dices = [float(r["dice"]) for r in rows_of(folders[1] / "s2ca_evaluation")][::3]
        dice = found["regions"]["WT"]["dice"]
        assert ([dice["ci_low"], dice["ci_high"]] == [min(dices), max(dices)]) == said


def test_the_number_of_cases_of_each_region_is_shown_where_it_differs(folders, capsys):
    for folder in folders:
        write_labels(np.minimum(tumour(), 2), folder / "case_0.nii.gz")
    assert evaluate(folders, "--rules", "brats-2026") == 0
    table = capsys.readouterr().out.splitlines()
    lines = {
        line.split()[0]: line.split() for line in table if line.startswith((*REGIONS, "region"))
    }
    assert lines["region"][1] == "cases"
    assert [lines[region][1] for region in REGIONS] == ["4", "4", "3"]
    assert evaluate(folders, "--overwrite") == 0
    table = capsys.readouterr().out.splitlines()
    assert next(line.split()[1] for line in table if line.startswith("region")) == "Dice"


@pytest.mark.parametrize(
    ("rules", "empty_prediction", "other_prediction"),
    [("classic", "", ""), ("lesionwise-2023", "1.0", "0.0"), ("brats-2026", "", "")],
)
def test_sensitivity_of_an_empty_reference_is_that_of_the_rules_year(
    folders, rules, empty_prediction, other_prediction
):
    for case in ("case_0", "case_1"):
        write_labels(np.minimum(tumour(), 2), folders[0] / f"{case}.nii.gz")
    write_labels(np.minimum(tumour(), 2), folders[1] / "case_0.nii.gz")
    assert evaluate(folders, "--rules", rules) == 0
    found = {
        row["case"]: row["sensitivity"]
        for row in rows_of(folders[1] / "s2ca_evaluation")
        if row["region"] == "ET"
    }
    assert (found["case_0"], found["case_1"]) == (empty_prediction, other_prediction)


def test_a_file_that_only_ends_like_a_pair_of_brats_is_one_case(tmp_path):
    """A file's name may hold a line break, after which nothing is a suffix."""
    folders = tmp_path / "truth", tmp_path / "predictions"
    for folder in folders:
        write_labels(tumour(), folder / "case_seg\n.nii.gz")
        write_dataset_json(folder / "dataset.json", LABELS)
    assert evaluate(folders) == 0
    assert {row["case"] for row in rows_of(folders[1] / "s2ca_evaluation")} == {"case_seg\n"}


def test_gzip_of_the_wrong_checksum_is_named(folders, capsys):
    path = folders[1] / "case_2.nii.gz"
    content = bytearray(gzip.compress(gzip.decompress(path.read_bytes())))
    content[-8] ^= 1
    path.write_bytes(content)
    assert evaluate(folders) == 1
    assert "case_2.nii.gz cannot be read" in capsys.readouterr().err
