"""The report: its numbers are those of the files, and it comes out whatever is missing."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import nnunetv2_s2ca
from nnunetv2_s2ca import UserError, cli
from tests.reporting.reading import Page, same
from tests.reporting.synthetic_runs import MODEL, write_cross_validation

NAMES = [f"BraTS19_SYN_{number:03d}_1" for number in range(1, 7)]
OTHER = "nnUNetTrainer__nnUNetPlans__3d_fullres"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_cross_validation(folder, names=NAMES, probabilities=True)
    write_cross_validation(folder, names=NAMES, noise=0.4, model=OTHER)
    for model in (MODEL, OTHER):
        predictions = folder / model
        predictions.mkdir()
        for path in _trained(folder, model).glob("fold_*/validation/*.nii.gz"):
            shutil.copy(path, predictions)
        labels = folder / "nnUNet_raw" / "Dataset043_BraTS2019" / "labelsTr"
        dataset_json = labels.parent / "dataset.json"
        nnunetv2_s2ca.evaluate(labels, predictions, dataset_json=dataset_json, processes=1)
    return folder


@pytest.fixture(scope="module")
def page(base) -> Page:
    nnunetv2_s2ca.report(_trained(base), base / "one.html", processes=1, pictures=2)
    return Page(base / "one.html")


@pytest.fixture(scope="module")
def pair(base) -> Page:
    runs = [base / OTHER, base / MODEL]
    nnunetv2_s2ca.report(runs, base / "two.html", processes=1, pictures=1)
    return Page(base / "two.html")


def _trained(base: Path, model: str = MODEL) -> Path:
    return base / "nnUNet_results" / "Dataset043_BraTS2019" / model


def _metrics(folder: Path) -> dict[tuple[str, str, str], float]:
    with (folder / "s2ca_evaluation" / "metrics.csv").open(newline="") as file:
        return {
            (row["case"], row["region"], name): float(cell or "nan")
            for row in csv.DictReader(file)
            for name, cell in row.items()
            if name not in ("case", "region", "rules", "nsd_tolerance_mm")
        }


@pytest.mark.parametrize("metric", ["dice", "hd95_mm", "lesion_dice"])
def test_values_of_cases_are_those_of_metrics_csv(base, page, metric):
    expected = {key: value for key, value in _metrics(base / MODEL).items() if key[2] == metric}
    found = page.values("case", "region", "metric", metric=metric)
    assert found.keys() == expected.keys()
    assert all(same(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", ["reference_ml", "prediction_ml"])
def test_volumes_are_those_of_metrics_csv(base, page, name):
    expected = {key[:2]: value for key, value in _metrics(base / MODEL).items() if key[2] == name}
    assert page.values("case", "region", value=name.replace("_", "-")) == expected


def test_summary_is_that_of_summary_json(base, page):
    regions = json.loads((base / MODEL / "s2ca_evaluation" / "summary.json").read_text())["regions"]
    found = page.values("region", "metric", "stat")
    assert len(found) == sum(len(stats) for of in regions.values() for stats in of.values())
    for (region, metric, stat), value in found.items():
        expected = regions[region][metric][stat]
        assert same(value, math.nan if expected is None else expected), (region, metric, stat)


def test_comparison_is_that_of_compare(base, pair):
    comparison = nnunetv2_s2ca.compare(base / OTHER, base / MODEL)
    found = pair.values("region", "metric", "stat", pair="0")
    expected = {
        (region, metric, stat): value
        for region, metrics in comparison.comparisons.items()
        for metric, result in metrics.items()
        for stat, value in vars(result).items()
    }
    assert found.keys() == expected.keys()
    assert all(same(found[key], expected[key]) for key in expected)


def test_paired_differences_are_those_of_the_tables(base, pair):
    first, second = _metrics(base / OTHER), _metrics(base / MODEL)
    found = pair.values("case", "region", value="difference")
    assert found == {key[:2]: second[key] - first[key] for key in first if key[2] == "dice"}


def test_lesions_are_sums_over_metrics_csv(base, page):
    metrics = _metrics(base / MODEL)
    found = page.values("region", "sum")
    assert len(found) == 9
    for (region, name), value in found.items():
        assert value == sum(v for (_, r, n), v in metrics.items() if (r, n) == (region, name))


def test_bland_altman_names_bias_and_limits(base, page):
    metrics = _metrics(base / MODEL)
    differences = np.array(
        [
            metrics[case, "WT", "prediction_ml"] - metrics[case, "WT", "reference_ml"]
            for case in NAMES
        ]
    )
    bias, spread = differences.mean(), 1.96 * differences.std(ddof=1)
    alt = next(
        a["aria-label"] for _, a in page.elements if "Altman plot of WT" in a.get("aria-label", "")
    )
    numbers = [float(text) for text in re.findall(r"(-?\d+\.\d+)(?: ml| and)", alt)]
    assert numbers == pytest.approx([bias, bias - spread, bias + spread], abs=0.006)


def test_learning_curves_of_all_folds_are_drawn(page):
    assert "fold 0 12 epochs" in page.html
    assert "fold 1 12 epochs" in page.html
    assert "12 min 13 s" in page.html  # twelve epochs of 61.05 s


def test_the_table_to_download_is_metrics_csv(base, page):
    import base64

    href = next(a["href"] for tag, a in page.elements if tag == "a" and "download" in a)
    text = base64.b64decode(href.partition(",")[2]).decode()
    expected = (base / MODEL / "s2ca_evaluation" / "metrics.csv").read_text()
    assert text == expected


def test_cases_are_listed_worst_first_and_lead_to_their_pictures(base, page):
    means = page.values("case", metric="mean_dice")
    assert list(means.values()) == sorted(means.values())
    ids = page.ids()
    assert len(ids) == len(set(ids))
    links = [a["href"][1:] for tag, a in page.elements if tag == "a" and a["href"].startswith("#")]
    assert set(links) <= set(ids)
    assert sum("-case" in link for link in links) == 4
    assert {a["data-href"] for _, a in page.elements if "data-href" in a} <= set(ids)


def test_nothing_is_loaded_from_elsewhere(page, pair):
    for each in (page, pair):
        for _, attributes in each.elements:
            for name in ("src", "href", "xlink:href", "action", "srcset", "poster"):
                assert attributes.get(name, "#").startswith(("#", "data:"))
        styles = re.findall(r"<style>(.*?)</style>", each.html, re.S)
        assert not re.search(r"url\(|@import", "".join(styles))
        assert "default-src 'none'" in each.html


def test_every_picture_and_plot_has_words_for_those_who_cannot_see_it(page):
    pictures = [a for tag, a in page.elements if tag == "svg" and a.get("aria-hidden") != "true"]
    assert len(pictures) > 30
    assert all(a["role"] == "img" and a["aria-label"].strip() for a in pictures)


def test_two_runs_with_one_name_are_told_apart(base, tmp_path):
    for place in ("a", "b"):
        shutil.copytree(base / MODEL, tmp_path / place / "predictions")
    nnunetv2_s2ca.report(
        [tmp_path / "a/predictions", tmp_path / "b/predictions"], tmp_path / "r.html", pictures=0
    )
    html = (tmp_path / "r.html").read_text()
    assert "a/predictions" in html
    assert "b/predictions" in html


HOSTILE = ["<script>alert(1)</script>", 'a"onload="x', "it's & <b>", "‮reversed", "{{7*7}}"]


def test_names_of_cases_are_text_and_nothing_else(tmp_path):
    names = [name.replace("/", "") for name in HOSTILE]
    trained = write_cross_validation(tmp_path, names=names, folds=1, shape=(16, 18, 14), spacing=12)
    nnunetv2_s2ca.report(trained, tmp_path / "r.html", title="<img src=x>", processes=1)
    page = Page(tmp_path / "r.html")
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert not any("onload" in attributes for _, attributes in page.elements)
    assert "img" not in [tag for tag, _ in page.elements]
    text = "".join(page.text)
    assert "<script>alert(1)<script>" in text  # the slash is no part of a file's name
    assert "{{7*7}}" in text
    assert "‮" not in page.html


def test_a_missing_fold_and_a_damaged_log_are_named(base, tmp_path):
    shutil.copytree(base / "nnUNet_raw", tmp_path / "nnUNet_raw")
    shutil.copytree(base / "nnUNet_results", tmp_path / "nnUNet_results")
    trained = _trained(tmp_path)
    shutil.rmtree(trained / "fold_1" / "validation")
    (next((trained / "fold_0").glob("training_log*"))).write_bytes(b"\xff\x00 nothing")
    report = nnunetv2_s2ca.report(trained, tmp_path / "r.html", processes=1, pictures=1)
    assert any("fold_1/validation" in line for line in report.missing)
    assert any("Learning curve of fold 0" in line for line in report.missing)
    page = Page(tmp_path / "r.html")
    assert "What is missing" in "".join(page.text)
    assert len(page.values("case", metric="mean_dice")) == 3


def test_without_truth_the_predictions_are_still_shown(base, tmp_path):
    predictions = tmp_path / "predictions"
    shutil.copytree(base / MODEL, predictions, ignore=shutil.ignore_patterns("s2ca_evaluation"))
    images = base / "nnUNet_raw" / "Dataset043_BraTS2019" / "imagesTr"
    report = nnunetv2_s2ca.report(
        predictions, tmp_path / "r.html", images=images, processes=1, pictures=1
    )
    assert any(line.startswith("Truth") for line in report.missing)
    page = Page(tmp_path / "r.html")
    assert sum(a.get("class", "").startswith("outline prediction") for _, a in page.elements)
    assert not any("outline truth" in a.get("class", "") for _, a in page.elements)
    assert not page.values("case", metric="mean_dice")


def test_one_case_has_no_interval_and_no_limits_of_agreement(tmp_path):
    trained = write_cross_validation(tmp_path, names=["only"], folds=1)
    nnunetv2_s2ca.report(trained, tmp_path / "r.html", processes=1)
    page = Page(tmp_path / "r.html")
    assert len(page.values("case", metric="mean_dice")) == 1
    assert "Bland–Altman" not in page.html
    assert page.values("region", "metric", "stat")["WT", "dice", "cases"] == 1


@pytest.mark.parametrize("what", ["prediction", "truth", "image", "npz"])
def test_a_damaged_file_is_named_and_the_others_are_shown(base, tmp_path, what):
    shutil.copytree(base / "nnUNet_raw", tmp_path / "nnUNet_raw")
    shutil.copytree(_trained(base), _trained(tmp_path))
    raw = tmp_path / "nnUNet_raw" / "Dataset043_BraTS2019"
    damaged = {
        "prediction": _trained(tmp_path) / "fold_0" / "validation" / f"{NAMES[0]}.nii.gz",
        "truth": raw / "labelsTr" / f"{NAMES[0]}.nii.gz",
        "image": raw / "imagesTr" / f"{NAMES[0]}_0003.nii.gz",
        "npz": _trained(tmp_path) / "fold_0" / "validation" / f"{NAMES[0]}.npz",
    }[what]
    damaged.write_bytes(damaged.read_bytes()[:-400])
    report = nnunetv2_s2ca.report(_trained(tmp_path), tmp_path / "r.html", processes=1)
    assert any(damaged.name in line for line in report.missing)
    scored = Page(tmp_path / "r.html").values("case", metric="mean_dice")
    assert len(scored) == (5 if what in ("prediction", "truth") else 6)


def test_a_damaged_table_of_scores_is_named_and_scores_are_computed(base, tmp_path):
    folder = tmp_path / MODEL
    shutil.copytree(base / MODEL, folder)
    table = folder / "s2ca_evaluation" / "metrics.csv"
    table.write_text(table.read_text()[:-30])
    (folder / "dataset.json").write_bytes((_trained(base) / "dataset.json").read_bytes())
    report = nnunetv2_s2ca.report(folder, tmp_path / "r.html", processes=1, pictures=0)
    assert any("truncated" in line for line in report.missing)
    expected = _metrics(base / MODEL)
    found = Page(tmp_path / "r.html").values("case", "region", "metric", metric="dice")
    assert found == {key: value for key, value in expected.items() if key[2] == "dice"}


def test_a_summary_that_contradicts_the_table_is_named(base, tmp_path):
    folder = tmp_path / MODEL
    shutil.copytree(base / MODEL, folder)
    path = folder / "s2ca_evaluation" / "summary.json"
    content = json.loads(path.read_text())
    content["regions"]["WT"]["dice"]["mean"] += 0.01
    path.write_text(json.dumps(content))
    report = nnunetv2_s2ca.report(folder, tmp_path / "r.html", processes=1, pictures=0)
    assert any("differs from metrics.csv" in line for line in report.missing)


def test_an_existing_page_is_kept_and_folders_are_refused(base, tmp_path):
    page = tmp_path / "r.html"
    page.write_text("mine")
    with pytest.raises(UserError, match="`overwrite=True`"):
        nnunetv2_s2ca.report(base / MODEL, page)
    with pytest.raises(UserError, match="is a folder"):
        nnunetv2_s2ca.report(base / MODEL, tmp_path)
    assert page.read_text() == "mine"


@pytest.mark.parametrize("run", ["nowhere", "empty"])
def test_a_run_that_is_none_is_refused(tmp_path, run):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=run):
        nnunetv2_s2ca.report(tmp_path / run, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_the_command_ends_with_the_path(base, tmp_path, capsys):
    output = tmp_path / "r.html"
    arguments = [str(base / MODEL), "-o", str(output), "-np", "1", "--pictures", "0"]
    assert cli.main(["report", *arguments]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {output}"


def _segmented(base: Path, name: str, number: float) -> dict:
    """An entry as `s2ca segment --report` writes it."""
    raw = base / "nnUNet_raw" / "Dataset043_BraTS2019" / "imagesTr"
    return {
        "segmentation": str(base / MODEL / f"{name}.nii.gz"),
        "scans": {
            "t1ce": str(raw / f"{name}_0001.nii.gz"),
            "flair": str(raw / f"{name}_0003.nii.gz"),
        },
        "volumes_ml": {"WT": 31.25},
        "uncertainty": {"members": 8, "mean_disagreement": number},
        "warnings": ["the <skull> is still there"],
        "seconds": {"prediction": 12.5},
    }


def test_a_patient_of_segment_is_shown_with_pictures(base, tmp_path):
    (tmp_path / "patient.json").write_text(json.dumps(_segmented(base, NAMES[0], 0.125)))
    report = nnunetv2_s2ca.report(tmp_path / "patient.json", tmp_path / "r.html")
    assert report.missing == []
    page = Page(tmp_path / "r.html")
    values = page.values("entry")
    assert values["volumes_ml › WT",] == 31.25
    assert values["uncertainty › mean_disagreement",] == 0.125
    assert "the <skull> is still there" in "".join(page.text)
    assert [tag for tag, _ in page.elements].count("image") == 6  # two sequences, three planes


def test_a_patient_whose_files_are_gone_is_still_shown(tmp_path):
    content = {"segmentation": "gone.nii.gz", "volumes_ml": {"WT": 1.5}}
    (tmp_path / "patient.json").write_text(json.dumps(content))
    report = nnunetv2_s2ca.report(tmp_path / "patient.json", tmp_path / "r.html")
    assert "gone.nii.gz was not found" in report.missing[0]
    assert Page(tmp_path / "r.html").values("entry") == {("volumes_ml › WT",): 1.5}


def test_other_json_files_are_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"labels": {}}')
    with pytest.raises(UserError, match=r"x\.json is not a report"):
        nnunetv2_s2ca.report(tmp_path / "x.json", tmp_path / "r.html")


def test_uncertainty_of_segment_is_drawn_against_dice(base, tmp_path):
    folder = tmp_path / MODEL
    shutil.copytree(base / MODEL, folder)
    entries = {name: _segmented(base, name, 0.1 * n) for n, name in enumerate(NAMES)}
    (folder / "all.json").write_text(json.dumps({**entries, "other": {"error": "no T1"}}))
    nnunetv2_s2ca.report(folder, tmp_path / "r.html", processes=1, pictures=0)
    found = Page(tmp_path / "r.html").values("case", value="uncertainty")
    assert found == {(name,): 0.1 * n for n, name in enumerate(NAMES)}


def test_evaluate_and_compare_write_a_page_when_asked(base, tmp_path, capsys):
    labels = base / "nnUNet_raw" / "Dataset043_BraTS2019" / "labelsTr"
    pages = tmp_path / "e.html", tmp_path / "c.html"
    command = ["evaluate", "--ref", str(labels), "--pred", str(base / MODEL), "-np", "1"]
    command += ["-djfile", str(labels.parent / "dataset.json"), "-o", str(tmp_path / "scores")]
    assert cli.main([*command, "--report", str(pages[0])]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {pages[0]}"
    command = ["compare", str(base / OTHER), str(tmp_path / "scores"), "--report", str(pages[1])]
    assert cli.main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {pages[1]}"
    assert Page(pages[0]).values("case", metric="mean_dice")
    assert Page(pages[1]).values("region", "metric", "stat", pair="0")


def test_an_existing_page_stops_evaluate_before_any_work(base, tmp_path):
    page = tmp_path / "r.html"
    page.write_text("mine")
    labels = base / "nnUNet_raw" / "Dataset043_BraTS2019" / "labelsTr"
    with pytest.raises(UserError, match=r"r\.html exists"):
        nnunetv2_s2ca.evaluate(
            labels,
            base / MODEL,
            dataset_json=labels.parent / "dataset.json",
            output=tmp_path / "scores",
            report=page,
        )
    assert not (tmp_path / "scores").exists()
