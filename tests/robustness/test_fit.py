"""What `s2ca postprocess --fit` says of hostile models and splits; it writes its file or none."""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from nnunetv2_s2ca.cli import main
from tests.damaged_nifti import truncated
from tests.evaluation.shapes import write_labels
from tests.robustness.predictions import LABELS, contents, tumour, write_dataset_json

CASES = [f"case_{number}" for number in range(4)]
SPLITS = [
    {"train": CASES[2:], "val": CASES[:2]},
    {"train": CASES[:2], "val": CASES[2:]},
]


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A model folder of two folds, two cases each, as nnU-Net leaves it."""
    dataset = tmp_path / "preprocessed/Dataset043_Demo"
    model = tmp_path / "results/Dataset043_Demo/nnUNetTrainerS2CA__nnUNetPlans__3d_fullres"
    for fold, split in enumerate(SPLITS):
        for case in split["val"]:
            write_labels(tumour(), dataset / f"gt_segmentations/{case}.nii.gz")
            write_labels(tumour(1), model / f"fold_{fold}/validation/{case}.nii.gz")
    (dataset / "splits_final.json").write_text(json.dumps(SPLITS))
    write_dataset_json(model / "dataset.json", LABELS)
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return model


@pytest.fixture
def splits(tmp_path, model):
    return tmp_path / "preprocessed/Dataset043_Demo/splits_final.json"


def fit(model, *options) -> int:
    arguments = ["postprocess", "--fit", "-m", model, *options, "-np", "1"]
    return main(list(map(str, arguments)))


def test_all_damaged_files_are_named(model, tmp_path, capsys):
    for path in ("fold_0/validation/case_1.nii.gz", "fold_1/validation/case_2.nii.gz"):
        truncated(model / path)
    write_labels(
        tumour() + 4, tmp_path / "preprocessed/Dataset043_Demo/gt_segmentations/case_3.nii.gz"
    )
    assert fit(model) == 1
    message = capsys.readouterr().err
    assert "3 cases have problems (nothing is written)" in message
    for case in ("case_1", "case_2", "case_3"):
        assert f"{case}.nii.gz" in message
    assert not (model / "s2ca_postprocessing.json").exists()


def test_all_folds_that_do_not_fit_are_named(model, capsys):
    (model / "fold_0/validation/case_1.nii.gz").unlink()
    write_labels(tumour(), model / "fold_1/validation/stranger.nii.gz")
    shutil.copytree(model / "fold_1", model / "fold_7")
    assert fit(model) == 1
    message = capsys.readouterr().err
    assert "case_1" in message
    assert "stranger" in message
    assert "fold_7" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param([{**SPLITS[0], "val": ["case_0", "case_0", "case_1"]}], "case_0", id="twice"),
        pytest.param([{**SPLITS[0], "train": "case_2"}], "fold 0", id="train is a string"),
        pytest.param([{**SPLITS[0], "val": [0, 1]}], "fold 0", id="val holds numbers"),
        pytest.param([{**SPLITS[0], "val": [["case_0"]]}], "fold 0", id="nested lists"),
        pytest.param([{**SPLITS[0], "val": {"case_0": 1}}], "fold 0", id="val is an object"),
        pytest.param([{**SPLITS[0], "val": None}], "fold 0", id="val is null"),
        pytest.param([{"train": []}], "fold 0", id="no val"),
        pytest.param([SPLITS], "fold 0", id="folds in a list"),
        pytest.param([None], "fold 0", id="null"),
        pytest.param({"0": SPLITS[0]}, "array", id="an object"),
        pytest.param([], "no folds", id="no fold"),
        pytest.param(
            [{"train": CASES, "val": CASES[:2]}, SPLITS[1]], "validates on", id="a case in both"
        ),
        pytest.param([SPLITS[0]], "1 folds, but there is a", id="a fold too few"),
    ],
)
def test_splits_that_are_not_nnunets_are_named(model, splits, capsys, content, words):
    splits.write_text(json.dumps(content))
    assert fit(model) == 1
    message = capsys.readouterr().err
    assert "splits_final.json" in message
    assert words in message
    assert not (model / "s2ca_postprocessing.json").exists()


@pytest.mark.parametrize("text", ["", "{oops", "[" * 100_000, "\xff", "[" + "9" * 5001 + "]"])
def test_splits_that_are_no_json_are_named(model, splits, capsys, text):
    splits.write_text(text, encoding="latin-1")
    assert fit(model) == 1
    assert "splits_final.json" in capsys.readouterr().err


def test_a_folder_in_the_place_of_the_splits_is_named(model, tmp_path, capsys):
    assert fit(model, "--splits", tmp_path) == 1
    assert f"{tmp_path} is a folder" in capsys.readouterr().err


def test_a_model_that_is_missing_is_named_and_no_other_option_is_advised(tmp_path, capsys):
    assert fit(tmp_path / "missing") == 1
    message = capsys.readouterr().err
    assert f"{tmp_path / 'missing'} is not a folder" in message
    assert "--edition" not in message


def test_an_output_below_a_file_is_refused_before_anything_is_read(model, capsys, monkeypatch):
    monkeypatch.setattr("nnunetv2_s2ca.api.postprocessing.fit_rules", None)
    before = contents(model)
    assert fit(model, "-o", model / "dataset.json/rules.json") == 1
    assert "dataset.json is a file" in capsys.readouterr().err
    assert contents(model) == before


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux'")
def test_an_output_that_cannot_be_written_is_named_before_anything_is_read(
    model, capsys, monkeypatch
):
    monkeypatch.setattr("nnunetv2_s2ca.api.postprocessing.fit_rules", None)
    assert fit(model, "-o", "/proc/rules.json") == 1
    assert "/proc cannot be written" in capsys.readouterr().err


def test_separate_labels_are_fitted_as_the_regions_that_they_imply(model):
    assert fit(model) == 0
    of_regions = json.loads((model / "s2ca_postprocessing.json").read_text())
    write_dataset_json(
        model / "dataset.json", {"background": 0, "edema": 1, "non-enhancing": 2, "ET": 3}
    )
    assert fit(model, "--overwrite") == 0
    assert json.loads((model / "s2ca_postprocessing.json").read_text()) == of_regions
