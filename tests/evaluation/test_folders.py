"""`s2ca evaluate` and `s2ca compare`, from files to files."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from nnunetv2_s2ca.brats.regions import scheme_of_dataset
from nnunetv2_s2ca.cli import main
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.evaluation.comparison import COMPARED
from nnunetv2_s2ca.evaluation.rules import RULES, default_rules
from nnunetv2_s2ca.evaluation.segmentations import find_segmentations
from tests.damaged_nifti import UNREADABLE, colours, truncated, write_array
from tests.evaluation.shapes import DATASET, ball, write_labels

SHAPE = (24, 22, 20)


def tumour(shift: int = 0) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    for label, radius in ((1, 8), (2, 6), (3, 3)):
        labels[ball(SHAPE, (11 + shift, 11, 10), radius)] = label
    return labels


@pytest.fixture
def folders(tmp_path):
    """Truth and predictions of four cases in nnU-Net's labels, with a dataset.json."""
    reference, prediction = tmp_path / "labelsTr", tmp_path / "predictions"
    for number in range(4):
        write_labels(tumour(), reference / f"case_{number}.nii.gz", spacing=(1, 1, 2))
        write_labels(tumour(number), prediction / f"case_{number}.nii.gz", spacing=(1, 1, 2))
    (prediction / "dataset.json").write_text(json.dumps(DATASET))
    return reference, prediction


def evaluate(folders, *options) -> int:
    reference, prediction = folders
    return main(
        ["evaluate", "--ref", str(reference), "--pred", str(prediction), "-np", "1", *options]
    )


def rows_of(prediction):
    with (prediction / "s2ca_evaluation/metrics.csv").open() as lines:
        return list(csv.DictReader(lines))


def test_csv_has_a_row_per_case_and_region(folders, capsys):
    assert evaluate(folders) == 0
    rows = rows_of(folders[1])
    assert [(row["case"], row["region"]) for row in rows] == [
        (f"case_{n}", region) for n in range(4) for region in ("WT", "TC", "ET")
    ]
    assert [float(row["dice"]) for row in rows[:3]] == [1, 1, 1]
    printed = capsys.readouterr().out
    assert "4 cases. Rules classic" in printed
    assert "373.13" in printed


def test_summary_has_mean_median_deviation_and_interval(folders):
    assert evaluate(folders) == 0
    summary = json.loads((folders[1] / "s2ca_evaluation/summary.json").read_text())
    dices = [float(row["dice"]) for row in rows_of(folders[1]) if row["region"] == "WT"]
    found = summary["regions"]["WT"]["dice"]
    assert found["mean"] == pytest.approx(np.mean(dices))
    assert found["median"] == pytest.approx(np.median(dices))
    assert found["std"] == pytest.approx(np.std(dices, ddof=1))
    assert min(dices) <= found["ci_low"] < found["mean"] < found["ci_high"] <= max(dices)
    assert summary["rules"]["name"] == "classic"


def test_distances_are_in_mm_of_the_files_spacing(tmp_path):
    labels, shifted = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    labels[5:9, 5:9, 5], shifted[5:9, 5:9, 8] = 1, 1
    for folder, array in (("ref", labels), ("pred", shifted)):
        write_labels(array, tmp_path / folder / "a.nii.gz", spacing=(1, 1, 2.5))
    (tmp_path / "pred/dataset.json").write_text('{"labels": {"background": 0, "lesion": 1}}')
    assert evaluate((tmp_path / "ref", tmp_path / "pred")) == 0
    (row,) = rows_of(tmp_path / "pred")
    assert float(row["hd95_mm"]) == pytest.approx(7.5)


def test_several_processes_give_what_one_gives(folders):
    assert evaluate(folders) == 0
    alone = rows_of(folders[1])
    assert evaluate(folders, "-np", "2", "--overwrite") == 0
    assert rows_of(folders[1]) == alone


def test_existing_results_stay_unless_asked(folders, capsys):
    assert evaluate(folders) == 0
    before = rows_of(folders[1])
    write_labels(tumour(3), folders[1] / "case_0.nii.gz", spacing=(1, 1, 2))
    assert evaluate(folders) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert rows_of(folders[1]) == before


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_folder_that_is_a_file_is_refused(folders, tmp_path, capsys, place):
    (tmp_path / "file").write_text("the user's own")
    assert evaluate(folders, "-o", str(tmp_path / place)) == 1
    assert f"{tmp_path / 'file'} is a file" in capsys.readouterr().err


def no_prediction(reference, prediction):
    (prediction / "case_2.nii.gz").unlink()


def no_reference(reference, prediction):
    (reference / "case_2.nii.gz").unlink()


def other_shape(reference, prediction):
    write_labels(tumour()[:-1], prediction / "case_2.nii.gz", spacing=(1, 1, 2))


def other_spacing(reference, prediction):
    write_labels(tumour(), prediction / "case_2.nii.gz", spacing=(1, 1, 1))


def other_origin(reference, prediction):
    write_labels(tumour(), prediction / "case_2.nii.gz", spacing=(1, 1, 2), origin=(0, 5, 0))


def unknown_label(reference, prediction):
    labels = tumour()
    labels[0, 0, 0] = 4
    write_labels(labels, prediction / "case_2.nii.gz", spacing=(1, 1, 2))


def fraction(reference, prediction):
    labels = tumour().astype(np.float32)
    labels[0, 0, 0] = 0.5
    write_labels(labels, prediction / "case_2.nii.gz", spacing=(1, 1, 2))


def strange_labels(reference, prediction):
    labels = np.where(tumour(), 2_000_000_000, 0).astype(np.int32)
    write_array(labels, prediction / "case_2.nii.gz")


def complex_numbers(reference, prediction):
    write_array(tumour().astype(np.complex64), prediction / "case_2.nii.gz")


def in_prediction(damage):
    def spoil(reference, prediction):
        damage(prediction / "case_2.nii.gz")

    spoil.__name__ = damage.__name__
    return spoil


TROUBLES = {
    no_prediction: "no prediction",
    no_reference: "no reference",
    other_shape: "shape",
    other_spacing: "spacing",
    other_origin: "origin",
    unknown_label: "label 4",
    fraction: "whole numbers",
    strange_labels: "label 2000000000",
    complex_numbers: "complex64",
    in_prediction(colours): "colours",
    **dict.fromkeys(map(in_prediction, UNREADABLE), "cannot be read"),
}


@pytest.mark.parametrize(
    ("spoil", "word"), TROUBLES.items(), ids=lambda v: getattr(v, "__name__", "")
)
def test_a_case_in_trouble_is_named_and_nothing_is_written(folders, capsys, spoil, word):
    spoil(*folders)
    assert evaluate(folders) == 1
    message = capsys.readouterr().err
    assert "case_2" in message
    assert word in message
    assert not (folders[1] / "s2ca_evaluation").exists()


def test_all_cases_in_trouble_are_named_at_once(folders, capsys):
    reference, prediction = folders
    (prediction / "case_0.nii.gz").unlink()
    (reference / "case_1.nii.gz").unlink()
    truncated(prediction / "case_2.nii.gz")
    assert evaluate(folders) == 1
    message = capsys.readouterr().err
    assert "3 cases have problems" in message
    assert all(f"case_{number}" in message for number in range(3))


@pytest.mark.parametrize("spoil", TROUBLES, ids=lambda v: v.__name__)
def test_keep_going_scores_the_rest_and_still_exits_with_1(folders, capsys, spoil):
    spoil(*folders)
    assert evaluate(folders, "--keep-going") == 1
    assert "case_2" in capsys.readouterr().err
    assert {row["case"] for row in rows_of(folders[1])} == {"case_0", "case_1", "case_3"}


def test_an_image_in_the_place_of_labels_is_refused_in_few_words(folders, capsys):
    write_array(
        np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), folders[1] / "case_2.nii.gz"
    )
    assert evaluate(folders) == 1
    assert "holds the labels 4, 5, 6, 7, 8 and others; expected" in capsys.readouterr().err


def test_folders_without_a_common_case_are_refused(folders, tmp_path, capsys):
    write_labels(tumour(), tmp_path / "other/patient.nii.gz")
    assert evaluate((tmp_path / "other", folders[1]), "--keep-going") == 1
    assert "no case in common" in capsys.readouterr().err


def test_without_dataset_json_the_message_says_what_to_give(folders, capsys):
    (folders[1] / "dataset.json").unlink()
    assert evaluate(folders) == 1
    assert "--edition" in capsys.readouterr().err


def test_a_challenge_folder_is_searched_for_its_segmentations(tmp_path):
    for name in ("BraTS19_A_1", "BraTS19_B_1"):
        write_labels(tumour(), tmp_path / "HGG" / name / f"{name}_seg.nii.gz")
        write_labels(tumour(), tmp_path / "HGG" / name / f"{name}_t1.nii.gz")
        write_labels(tumour(), tmp_path / "HGG" / name / f"._{name}_seg.nii.gz")
    assert list(find_segmentations(tmp_path)) == ["BraTS19_A_1", "BraTS19_B_1"]


def test_two_segmentations_of_one_case_are_refused(tmp_path):
    for folder in "ab":
        write_labels(tumour(), tmp_path / folder / "x_seg.nii.gz")
    with pytest.raises(UserError, match="case x has two"):
        find_segmentations(tmp_path)


def test_regions_of_a_dataset_carry_the_challenges_names(tmp_path):
    labels = DATASET["labels"] | {"resection cavity": 4, "odd": [5], "ignore": 6}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    scheme = scheme_of_dataset(tmp_path / "dataset.json")
    assert [region.name for region in scheme.regions] == ["WT", "TC", "ET", "RC", "odd"]
    assert scheme.labels == {0, 1, 2, 3, 4, 5, 6}
    assert scheme.ignore_label == 6


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "{}",
        "[1]",
        '{"labels": {"tumour": 1}}',
        '{"labels": {"background": 0}}',
        '{"labels": {"background": 0, "ignore": 1}}',
        '{"labels": {"background": 0, "tumour": 1, "ignore": [2]}}',
        *(
            f'{{"labels": {{"background": 0, "tumour": {label}}}}}'
            for label in ('"1"', "1.5", "-1", "Infinity", "true", "[]", "[0, 1]", "[[1, 2], 3]")
        ),
    ],
)
def test_a_damaged_dataset_json_is_named(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(UserError, match=r"dataset\.json"):
        scheme_of_dataset(tmp_path / "dataset.json")


def test_a_folder_in_the_place_of_dataset_json_is_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path} is a folder; expected a file"):
        scheme_of_dataset(tmp_path)


@pytest.mark.parametrize(
    ("edition", "rules"),
    [
        (None, "classic"),
        ("msd-task01", "classic"),
        ("brats2018", "classic"),
        ("brats2021", "classic"),
        ("brats2023-gli", "lesionwise-2023"),
        ("brats2024-ped", "lesionwise-2023"),
        ("brats2025-met", "brats-2026"),
    ],
)
def test_each_edition_has_its_own_rules_by_default(edition, rules):
    assert default_rules(edition) == rules


@pytest.mark.parametrize("rules", RULES)
def test_every_set_of_rules_runs_and_names_itself(folders, capsys, rules):
    assert evaluate(folders, "--rules", rules) == 0
    assert f"Rules {rules}" in capsys.readouterr().out
    assert {row["rules"] for row in rows_of(folders[1])} == {rules}


def test_infinite_distances_count_373_mm_in_means_and_are_counted(folders):
    write_labels(np.zeros(SHAPE, np.uint8), folders[1] / "case_0.nii.gz", spacing=(1, 1, 2))
    assert evaluate(folders, "--rules", "brats-2026") == 0
    found = json.loads((folders[1] / "s2ca_evaluation/summary.json").read_text())
    values = [float(r["hd95_mm"]) for r in rows_of(folders[1]) if r["region"] == "ET"]
    assert values[0] == np.inf
    expected = np.mean([min(value, 373) for value in values])
    assert found["regions"]["ET"]["hd95_mm"]["mean"] == pytest.approx(expected)
    assert found["regions"]["ET"]["hd95_mm"]["infinite"] >= 1


def test_compare_counts_wins_and_losses(folders, tmp_path, capsys):
    reference, first = folders
    second = tmp_path / "better"
    for number in range(4):
        better = tumour(max(number - 1, 0))
        write_labels(better, second / f"case_{number}.nii.gz", spacing=(1, 1, 2))
    (second / "dataset.json").write_text(json.dumps(DATASET))
    assert evaluate((reference, first)) == evaluate((reference, second)) == 0
    capsys.readouterr()
    table = tmp_path / "comparison.csv"
    assert main(["compare", str(first), str(second), "-o", str(table)]) == 0
    assert "Wilcoxon" in capsys.readouterr().out
    with table.open() as lines:
        rows = {(row["region"], row["metric"]): row for row in csv.DictReader(lines)}
    for metric in ("dice", "hd95_mm"):
        row = rows["WT", metric]
        assert (row["wins"], row["losses"], row["ties"]) == ("3", "0", "1")
    assert float(rows["WT", "dice"]["difference"]) > 0
    assert float(rows["WT", "hd95_mm"]["difference"]) < 0
    # the smallest two-sided p value that three differences can have
    assert float(rows["WT", "dice"]["p_value"]) == pytest.approx(0.25)


@pytest.fixture
def two_runs(folders, tmp_path):
    """Two runs by the rules of 2026 on two cases, the first with ET; A has it in both."""
    reference, first = folders
    second = tmp_path / "second"
    for folder in (reference, first):
        for number in (2, 3):
            (folder / f"case_{number}.nii.gz").unlink()
    without = np.minimum(tumour(), 2)
    for folder, case, labels in (
        (reference, "case_1", without),
        (first, "case_1", tumour()),
        (second, "case_0", tumour()),
        (second, "case_1", without),
    ):
        write_labels(labels, folder / f"{case}.nii.gz", spacing=(1, 1, 2))
    (second / "dataset.json").write_text(json.dumps(DATASET))
    for run in (first, second):
        assert evaluate((reference, run), "--rules", "brats-2026") == 0
    return first, second


def test_compare_tells_who_left_a_region_empty_rightly(two_runs, tmp_path, capsys):
    table = tmp_path / "comparison.csv"
    capsys.readouterr()
    assert main(["compare", *map(str, two_runs), "-o", str(table)]) == 0
    assert "correctly left the region empty" in capsys.readouterr().out
    with table.open() as lines:
        rows = {(row["region"], row["metric"]): row for row in csv.DictReader(lines)}
    for metric in COMPARED:
        row = rows["ET", metric]
        assert (row["cases"], row["left_out"]) == ("1", "1")
        assert (row["wins"], row["losses"], row["ties"]) == ("1", "0", "1")


def test_cases_and_regions_of_one_run_are_named(two_runs, capsys):
    first, second = two_runs
    table = second / "s2ca_evaluation/metrics.csv"
    head, *rows = table.read_text().splitlines()
    kept = [row for row in rows if row.startswith("case_0") and "ET" not in row]
    table.write_text("\n".join([head, *kept, ""]))
    capsys.readouterr()
    assert main(["compare", str(first), str(second)]) == 1
    printed = capsys.readouterr()
    assert not printed.out
    for what in ("case_1", "region ET"):
        assert f"{what}: only in {first / 's2ca_evaluation/metrics.csv'}" in printed.err
    assert main(["compare", str(first), str(second), "--keep-going"]) == 1
    printed = capsys.readouterr()
    assert "TC" in printed.out
    assert "not compared: case_1" in printed.err


def test_runs_by_different_rules_are_not_compared(folders, tmp_path, capsys):
    assert evaluate(folders, "-o", str(tmp_path / "a")) == 0
    assert evaluate(folders, "--rules", "brats-2026", "-o", str(tmp_path / "b")) == 0
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert "different rules" in capsys.readouterr().err


def test_runs_at_different_tolerances_are_not_compared(folders, tmp_path, capsys):
    assert evaluate(folders, "-o", str(tmp_path / "a")) == 0
    assert evaluate(folders, "--tolerance", "2", "-o", str(tmp_path / "b")) == 0
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert "2 mm" in capsys.readouterr().err


def test_a_tolerance_that_the_rules_fix_is_refused(folders, capsys):
    assert evaluate(folders, "--rules", "brats-2026", "--tolerance", "2") == 1
    assert "--tolerance" in capsys.readouterr().err


@pytest.mark.parametrize("tolerance", ["nan", "inf", "-1"])
def test_a_tolerance_that_is_no_distance_is_refused(folders, capsys, tolerance):
    assert evaluate(folders, f"--tolerance={tolerance}") == 1
    assert f"--tolerance {tolerance}" in capsys.readouterr().err
    assert not (folders[1] / "s2ca_evaluation").exists()


def test_a_table_by_unknown_rules_is_named(folders, capsys):
    assert evaluate(folders) == 0
    table = folders[1] / "s2ca_evaluation/metrics.csv"
    table.write_text(table.read_text().replace("classic", "fair"))
    assert main(["compare", str(table), str(table)]) == 1
    message = capsys.readouterr().err
    assert str(table) in message
    assert "'fair'" in message


def test_compare_says_where_no_metrics_are(tmp_path, capsys):
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 1
    assert "s2ca evaluate" in capsys.readouterr().err
