"""`s2ca export` of predictions that do not fit, from damaged datasets, to bad places, killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from isal import igzip

from nnunetv2_s2ca import cli
from nnunetv2_s2ca.brats.editions import EDITIONS
from nnunetv2_s2ca.dataset_conversion.convert import convert
from tests.damaged_nifti import write_header
from tests.dataset_conversion.synthetic_cases import AFFINE, SHAPE, save, write_case, write_download
from tests.robustness.predictions import contents, run_limited
from tests.robustness.processes import end_frozen, let_go_on_without_a_worker, start_frozen
from tests.waiting import MINUTES

EDITION = EDITIONS["brats2020"]
CASES = [f"BraTS20_Training_00{number}" for number in (1, 2, 3)]
CASE = CASES[0]


@pytest.fixture
def dataset(tmp_path, nnunet_folders):
    """Three training cases and two to predict."""
    source = tmp_path / "source"
    write_download(source, EDITION, count=3)
    for name in ("BraTS20_Validation_001", "BraTS20_Validation_002"):
        write_case(source / name, EDITION, name, segmented=False)
    return convert(EDITION, source, processes=1, say=lambda line: None).folder


@pytest.fixture
def predictions(tmp_path, dataset):
    """Of the training cases."""
    return Path(shutil.copytree(dataset / "labelsTr", tmp_path / "predictions"))


def _export(predictions: Path, output: Path, *options: str) -> int:
    arguments = ["-d", "82", "-i", str(predictions), "-o", str(output), "-np", "1"]
    return cli.main(["export", *arguments, *options])


def _assert_refused(predictions, tmp_path, capsys, message):
    """The message comes, and nothing is written."""
    before = contents(tmp_path)
    assert _export(predictions, tmp_path / "out") == 1
    assert re.search(message, capsys.readouterr().err)
    assert contents(tmp_path) == before


@dataclass(frozen=True)
class Row:
    """What is done to one of three predictions, and what is said of it."""

    name: str
    spoil: Callable[[Path], object]
    message: str


def _affine(change: np.ndarray) -> Callable[[Path], None]:
    return lambda path: save(path, np.asarray(nib.load(path).dataobj), AFFINE @ change)


def _wrong_checksum(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


PREDICTIONS = [
    Row("voxels 1 % longer", _affine(np.diag([1.01, 1, 1, 1])), "the affine differs: voxels lie"),
    Row("voxels 0.2 % longer", _affine(np.diag([1.002, 1.002, 1.002, 1])), "the affine differs"),
    Row(
        "flipped",
        _affine(np.diag([-1, 1, 1, 1])),
        r"the shape is the same, but the affine differs: its axes run RPS, expected LPS",
    ),
    Row("another shape", lambda p: save(p, np.zeros((3, 3, 3), "u1")), r"expected the shape \(7,"),
    Row(
        "affine of NaN",
        lambda path: write_header(path, offset=280, value=b"\xff" * 48),
        "expected finite numbers",
    ),
    Row("unknown label", lambda p: save(p, np.full(SHAPE, 7, "u1")), "holds the label 7"),
    Row("NaN", lambda p: save(p, np.full(SHAPE, np.nan, "f4")), "holds the label nan"),
    Row("4D", lambda p: save(p, np.zeros((*SHAPE, 2), "u1")), "expected 3 dimensions"),
    Row("wrong checksum", _wrong_checksum, "is damaged"),
    Row("pipe", _pipe, "is a pipe or device"),
    Row(
        "name of no case",
        lambda path: path.rename(path.with_name("BraTS20_Training_999.nii.gz")),
        r"cases that .* does not have: BraTS20_Training_999\. .*--allow-unknown",
    ),
]


@pytest.mark.parametrize("row", PREDICTIONS, ids=lambda row: row.name)
def test_prediction_that_does_not_fit_is_named_and_nothing_is_written(
    row, predictions, tmp_path, capsys
):
    row.spoil(predictions / f"{CASES[1]}.nii.gz")
    _assert_refused(predictions, tmp_path, capsys, row.message)


@pytest.mark.parametrize("rounding", [1 + 1e-6, 1 + 1e-5])
def test_rounding_of_headers_is_no_difference(rounding, predictions, tmp_path, dataset):
    """And the output's geometry is that of the image, to the bit."""
    _affine(np.diag([rounding] * 3 + [1]))(predictions / f"{CASE}.nii.gz")
    assert _export(predictions, tmp_path / "out") == 0
    image = nib.load(dataset / "imagesTr" / f"{CASE}_0000.nii.gz")
    header = nib.load(tmp_path / "out" / f"{CASE}.nii.gz").header
    np.testing.assert_array_equal(header["pixdim"][:4], image.header["pixdim"][:4])
    for field in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z"):
        np.testing.assert_array_equal(header[field], image.header[field])


def test_case_without_its_image_is_refused_unless_allowed(dataset, predictions, tmp_path, capsys):
    (image,) = dataset.glob(f"images*/{CASE}_0000.nii.gz")
    image.unlink()
    image.with_name(f"._{image.name}").touch()  # macOS'
    _assert_refused(predictions, tmp_path, capsys, rf"{dataset} lacks the images of {CASE}, ")
    assert _export(predictions, tmp_path / "out", "--allow-unknown") == 0
    assert "._" not in capsys.readouterr().out


def test_unknown_cases_can_be_allowed(predictions, tmp_path):
    (predictions / f"{CASE}.nii.gz").rename(predictions / "new.nii.gz")
    assert _export(predictions, tmp_path / "out", "--allow-unknown") == 0
    assert (tmp_path / "out" / "new.nii.gz").exists()


def test_missing_cases_are_named_and_the_others_exported(predictions, tmp_path, capsys):
    (predictions / f"{CASES[2]}.nii.gz").unlink()
    assert _export(predictions, tmp_path / "out") == 0
    report = capsys.readouterr().out
    assert f"1 of the dataset's 3 training cases have no prediction: {CASES[2]}" in report
    assert "cases to predict" not in report  # none of those was asked for
    assert len(list((tmp_path / "out").iterdir())) == 2


DESCRIPTIONS = {
    "an entry without images": {"dataset": {CASE: {"images": []}}},
    "an entry that is a list": {"dataset": {CASE: []}},
    "an entry of numbers": {"dataset": {CASE: {"images": [1]}}},
    "a list of entries": {"dataset": []},
    "a number of entries": {"dataset": 3},
    "no file ending": {"file_ending": None},
    "a file ending that is a list": {"file_ending": [".nii.gz"]},
    "a file ending that leads elsewhere": {"file_ending": "/../../x"},
}


@pytest.mark.parametrize("change", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_tampered_description_is_named(change, dataset, predictions, tmp_path, capsys):
    path = dataset / "dataset.json"
    content = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    _assert_refused(predictions, tmp_path, capsys, rf"{path}: (dataset|file_ending) is ")


TEXTS = {
    "brackets": "[" * 100_000,
    "a list": "[]",
    "UTF-16": "{}".encode("utf-16"),
    "many digits": '{"labels": ' + "9" * 5001 + "}",
    "nothing": "",
}


@pytest.mark.parametrize("name", ["dataset.json", "s2ca_source.json"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_file_that_is_no_json_is_named(name, text, dataset, predictions, tmp_path, capsys):
    path = dataset / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    _assert_refused(predictions, tmp_path, capsys, re.escape(str(path)))


@pytest.mark.parametrize("place", [".", "below", ".."])
def test_output_that_overlaps_the_predictions_is_refused(place, predictions, tmp_path, capsys):
    for path in list(predictions.iterdir()):  # beside these, .nii.gz files would find room
        nib.save(nib.load(path), path.with_suffix(""))
        path.unlink()
    before = contents(tmp_path)
    assert _export(predictions, predictions / place) == 1
    assert re.search("overlap", capsys.readouterr().err)
    assert contents(tmp_path) == before


def test_output_that_holds_files_is_refused(predictions, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    _assert_refused(predictions, tmp_path, capsys, "out exists and is not empty; name a new")


def test_output_where_a_disk_is_mounted_is_refused_at_once(
    predictions, tmp_path, capsys, monkeypatch
):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "out")
    _assert_refused(predictions, tmp_path, capsys, "out is a mount point.*name a folder")


def test_what_a_killed_export_has_left_is_removed(predictions, tmp_path):
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "half.nii.gz").touch()
    assert _export(predictions, tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{case}.nii.gz" for case in CASES
    ]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("processes", [1, 2])
def test_full_disk_is_named_and_a_second_call_succeeds(predictions, tmp_path, processes):
    before = contents(tmp_path)
    options = ("-d", 82, "-i", predictions, "-o", tmp_path / "out", "-np", processes)
    run = run_limited("RLIMIT_FSIZE", 64, "export", *options)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert "cannot be written" in run.stderr
    assert contents(tmp_path) == before
    assert _export(predictions, tmp_path / "out") == 0


def test_prediction_that_memory_cannot_hold_is_named(dataset, predictions, tmp_path):
    """A valid file of 1 GB of zeros, of a case that has no image to compare with."""
    header = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), AFFINE).header
    header.set_data_shape((1000, 1000, 1000))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    zeros = bytes(10**7)
    with igzip.open(predictions / "bomb.nii.gz", "wb") as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(100):
            file.write(zeros)
    options = ("-i", predictions, "-o", tmp_path / "out", "-np", 1, "--allow-unknown")
    run = run_limited("RLIMIT_AS", 600 * 10**6, "export", "-d", 82, *options)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert re.search(r"bomb\.nii\.gz: needs more memory than there is .*1\.0 GB", run.stderr)
    assert not list(tmp_path.glob("*out*"))


def test_header_of_terabytes_is_refused_before_memory_is_asked_for(predictions, tmp_path, capsys):
    path = predictions / f"{CASE}.nii.gz"
    write_header(path, offset=42, value=np.array([32767] * 3, "<i2").tobytes())
    _assert_refused(predictions, tmp_path, capsys, rf"{path} .*which a file of \d+ cannot hold")


@pytest.fixture
def frozen(predictions, tmp_path):
    """An export that holds its lock and has two workers, stopped."""
    options = ("-d", 82, "-i", predictions, "-o", tmp_path / "out", "-np", 2)
    process, workers = start_frozen("export", *options)
    yield process, workers
    end_frozen(process, workers)


def test_second_export_to_a_folder_is_refused(frozen, predictions, tmp_path, capsys):
    process, _ = frozen
    assert _export(predictions, tmp_path / "out") == 1
    assert f"is already being written, by process {process.pid} on" in capsys.readouterr().err
    process.send_signal(signal.SIGCONT)
    output, errors = process.communicate(timeout=MINUTES)
    assert process.returncode == 0, output + errors
    assert len(list((tmp_path / "out").iterdir())) == len(CASES)


def test_worker_that_the_system_kills_is_a_message(frozen, tmp_path):
    code, errors = let_go_on_without_a_worker(*frozen)
    assert code == 1
    assert "Traceback" not in errors
    assert re.search(r"BraTS20_Training_00\d\.nii\.gz: the worker process was killed", errors)
    assert not list(tmp_path.glob("*out*"))
