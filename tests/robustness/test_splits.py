"""`s2ca splits` on records and folds that were tampered with."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path

import pytest

from nnunetv2_s2ca import cli
from nnunetv2_s2ca.brats.editions import EDITIONS
from nnunetv2_s2ca.dataset_conversion.convert import convert
from tests.dataset_conversion.synthetic_cases import write_download

EDITION = EDITIONS["brats2021"]
CASE = "BraTS2021_00000"
RECORD = "s2ca_source.json"


@pytest.fixture
def dataset(tmp_path, nnunet_folders):
    write_download(tmp_path / "source", EDITION, count=4)
    return convert(EDITION, tmp_path / "source", processes=1, say=lambda line: None).folder


def _change(record, **values):
    record["cases"][CASE].update(values)


TAMPERED = {
    "edition is a list": (lambda r: r.update(edition=["brats2021"]), "edition"),
    "edition is unknown": (lambda r: r.update(edition="brats1999"), "unknown edition"),
    "edition is missing": (lambda r: r.pop("edition"), "edition"),
    "cases is a list": (lambda r: r.update(cases=[1]), "cases"),
    "a case is a number": (lambda r: r["cases"].update({CASE: 3}), f"case {CASE} is 3"),
    "a case without patient": (lambda r: r["cases"][CASE].pop("patient"), "patient None"),
    "patient is a list": (lambda r: _change(r, patient=["a"]), r"patient \['a'\]"),
    "grade is a number": (lambda r: _change(r, grade=3), "grade 3"),
    "labels are a text": (lambda r: _change(r, labels="012"), "labels '012'"),
    "a label that the edition lacks": (lambda r: _change(r, labels=[0, 99]), r"labels \[0, 99\]"),
    "a label that is a truth value": (lambda r: _change(r, labels=[True]), r"labels \[True\]"),
}


@pytest.mark.parametrize(("tamper", "message"), TAMPERED.values(), ids=TAMPERED)
def test_damaged_record_is_named(tamper, message, dataset, nnunet_folders, capsys):
    path = dataset / RECORD
    record = json.loads(path.read_text())
    tamper(record)
    path.write_text(json.dumps(record))
    assert cli.main(["splits", "-d", "137", "--folds", "2"]) == 1
    errors = capsys.readouterr().err
    assert f"{path} is damaged: " in errors
    assert re.search(message, errors)
    assert not list((nnunet_folders / "nnUNet_preprocessed").iterdir())


@pytest.mark.parametrize(
    ("keep", "message"),
    [(0, "no case with a segmentation"), (1, "all cases belong to one patient")],
)
def test_too_few_patients_for_any_folds(keep, message, dataset, capsys):
    record = json.loads((dataset / RECORD).read_text())
    for name in list(record["cases"])[keep:]:
        del record["cases"][name]
        (dataset / "labelsTr" / f"{name}.nii.gz").unlink()
    (dataset / RECORD).write_text(json.dumps(record))
    assert cli.main(["splits", "-d", "137"]) == 1
    assert message in capsys.readouterr().err


def test_cases_removed_or_added_by_hand_are_named(dataset, nnunet_folders, capsys):
    labels = dataset / "labelsTr"
    (labels / f"{CASE}.nii.gz").rename(labels / "mine.nii.gz")
    (labels / "._BraTS2021_00001.nii.gz").touch()  # macOS'
    assert cli.main(["splits", "-d", "137", "--folds", "2"]) == 1
    assert f"{labels} lacks {CASE} and also has mine, unlike" in capsys.readouterr().err
    assert not list((nnunet_folders / "nnUNet_preprocessed").iterdir())


def _folds(nnunet_folders, dataset) -> Path:
    path = nnunet_folders / "nnUNet_preprocessed" / dataset.name / "splits_final.json"
    path.parent.mkdir()
    return path


def test_folds_in_another_encoding_are_other_folds(dataset, nnunet_folders, capsys):
    path = _folds(nnunet_folders, dataset)
    path.write_text("[]", encoding="utf-16")
    assert cli.main(["splits", "-d", "137", "--folds", "2"]) == 1
    assert f"{path} holds other folds" in capsys.readouterr().err
    assert cli.main(["splits", "-d", "137", "--folds", "2", "--overwrite"]) == 0
    assert len(json.loads(path.read_text())) == 2


def test_a_folder_in_the_place_of_the_folds_is_named(dataset, nnunet_folders, capsys):
    path = _folds(nnunet_folders, dataset)
    path.mkdir()
    assert cli.main(["splits", "-d", "137", "--folds", "2", "--overwrite"]) == 1
    assert f"{path} is a folder" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["nnUNet_preprocessed", "nnUNet_results"])
def test_dataset_of_the_same_id_and_another_name_is_noticed(place, dataset, nnunet_folders, capsys):
    other = nnunet_folders / place / "Dataset137_Other"
    other.mkdir()
    assert cli.main(["splits", "-d", "137", "--folds", "2"]) == 1
    assert f"{other} has the same id as Dataset137_BraTS2021" in capsys.readouterr().err


@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_is_named_and_other_folds_stay(
    there, dataset, nnunet_folders, monkeypatch, capsys
):
    path = _folds(nnunet_folders, dataset)
    if there:
        path.write_text("[]")

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert cli.main(["splits", "-d", "137", "--folds", "2", "--overwrite"]) == 1
    assert f"{path} cannot be written: No space left on device" in capsys.readouterr().err
    assert [file.read_bytes() for file in path.parent.iterdir()] == [b"[]"] * there
