"""Wrong scans, masks, atlases, outputs and transforms: named, exit code 1, nothing written."""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

import nnunetv2_s2ca
from nnunetv2_s2ca import cli
from nnunetv2_s2ca.imaging.scans import Scan, header_of
from nnunetv2_s2ca.preparation.brain import find_brain
from nnunetv2_s2ca.preparation.record import write_record
from tests.robustness.predictions import contents

SHAPE = (20, 24, 18)
AFFINE = np.diag([9.0, 9, 9, 1])


def _save(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    nib.save(nib.Nifti1Image(voxels, affine), path)


def _image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(SHAPE, np.float32)


@pytest.fixture
def place(tmp_path):
    """T1ce, T2, a mask, an atlas."""
    for seed, name in enumerate(("t1ce", "t2", "atlas")):
        _save(tmp_path / f"{name}.nii.gz", _image(seed))
    _save(tmp_path / "mask.nii.gz", (_image(3) > 0.5).astype(np.uint8))
    return tmp_path


@dataclass(frozen=True)
class Row:
    """What is wrong, the options that it needs, and what is said."""

    name: str
    message: str
    spoil: Callable[[Path], object] = lambda place: None
    options: tuple[str, ...] = (
        "--t1ce",
        "t1ce.nii.gz",
        "--t2",
        "t2.nii.gz",
        "--mask",
        "mask.nii.gz",
    )
    output: str = "case-1"


def _with(*options: str) -> tuple[str, ...]:
    return (*Row.options, *options)


def _file(name: str, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> Callable[[Path], None]:
    return lambda place: _save(place / name, voxels, affine)


def _cut(name: str) -> Callable[[Path], object]:
    def cut(place: Path) -> None:
        content = (place / name).read_bytes()
        (place / name).write_bytes(content[: len(content) // 2])

    return cut


def _text(name: str) -> Callable[[Path], object]:
    return lambda place: (place / name).write_text("mine")


NAN = np.where(_image(0) > 0.5, np.nan, 1).astype(np.float32)
ROWS = [
    Row("no scan", "at least one of them", options=("--mask", "mask.nii.gz")),
    Row("missing file", "t2.nii.gz does not exist", lambda p: (p / "t2.nii.gz").unlink()),
    Row("cut file", "t2.nii.gz is truncated|t2.nii.gz .*damaged", _cut("t2.nii.gz")),
    Row("text", "t2.nii.gz", lambda p: (p / "t2.nii.gz").write_text("no image")),
    Row("folder without DICOM", "holds no DICOM series", options=_with("--t1", ".empty")),
    Row("4D", "expected a 3D image", _file("t2.nii.gz", np.ones((*SHAPE, 3), np.float32))),
    Row("2D", "expected a 3D image", _file("t2.nii.gz", np.ones(SHAPE[:2], np.float32))),
    Row("zeros", "t2.nii.gz is empty: all voxels are 0", _file("t2.nii.gz", np.zeros(SHAPE, "f4"))),
    Row("constant", "is empty: all voxels are 7", _file("t2.nii.gz", np.full(SHAPE, 7, "f4"))),
    Row("NaN", "holds NaN or infinity", _file("t2.nii.gz", NAN)),
    Row("few slices", "20 × 24 × 3 voxels; expected 8", _file("t2.nii.gz", _image(1)[..., :3])),
    Row(
        "voxels of 40 mm",
        "voxels of 40 × 9 × 9 mm; expected at most 10 mm. Is its header right",
        _file("t2.nii.gz", _image(1), np.diag([40.0, 9, 9, 1])),
    ),
    Row(
        "sheared",
        "sheared affine",
        _file("t2.nii.gz", _image(1), AFFINE + np.eye(4, k=1) * [0, 4, 0, 0]),
    ),
    Row("one image twice", "T1ce and T2 are the same image", _file("t2.nii.gz", _image(0))),
    Row("one file twice", "T1 and T2 are the same image", options=_with("--t1", "t2.nii.gz")),
    Row("mask on another grid", "lies on another grid than", _file("mask.nii.gz", _image(3)[1:])),
    Row(
        "mask at another place",
        "lies on another grid than",
        _file("mask.nii.gz", _image(3), AFFINE + np.eye(4, k=3) * 5),
    ),
    Row("empty mask", "mask.nii.gz is empty", _file("mask.nii.gz", np.zeros(SHAPE, "u1"))),
    Row("mask of nothing", "has no voxel above 0", _file("mask.nii.gz", -_image(3) - 1)),
    Row("mask of everything", "mask.nii.gz is empty", _file("mask.nii.gz", np.ones(SHAPE, "u1"))),
    Row("missing mask", "mask.nii.gz does not exist", lambda p: (p / "mask.nii.gz").unlink()),
    Row("missing atlas", "none.nii.gz does not exist", options=_with("--atlas", "none.nii.gz")),
    Row(
        "empty atlas",
        "atlas.nii.gz is empty",
        _file("atlas.nii.gz", np.zeros(SHAPE, "f4")),
        _with("--atlas", "atlas.nii.gz"),
    ),
    Row("unknown edition", "unknown edition 'brats2077'", options=_with("--edition", "brats2077")),
    Row("4D edition", "one file for all sequences", options=_with("--edition", "msd-task01")),
    Row(
        "edition without T2", "has no T2; leave it", options=_with("--edition", "brats2024-men-rt")
    ),
    Row("name with a blank", "its name becomes the case identifier", output="John Doe"),
    Row("name of a file", "its name becomes the case identifier", output="case.nii.gz"),
    Row("output exists", r"case-1 exists; pass --overwrite", lambda p: _fill(p / "case-1")),
    Row("output is a file", "case-1 is a file", lambda p: (p / "case-1").write_text("mine")),
    Row("output below a file", "mask.txt is a file", _text("mask.txt"), output="mask.txt/case-1"),
    Row(
        "output in a scan's folder", "overlap", options=_with("--t1", "dicom"), output="dicom/case"
    ),
    Row("no HD-BET", "skull stripping needs HD-BET", options=("--t1ce", "t1ce.nii.gz")),
]


def _fill(folder: Path) -> None:
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_wrong_input_is_named_and_nothing_is_written(row, place, monkeypatch, capsys):
    (place / ".empty").mkdir()
    (place / "dicom").mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setitem(sys.modules, "HD_BET", None)
    row.spoil(place)
    before = contents(place)
    assert cli.main(["prepare", *row.options, "-o", row.output]) == 1
    assert re.search(row.message, capsys.readouterr().err)
    assert contents(place) == before


def test_mask_and_no_skull_stripping_exclude_each_other(place):
    with pytest.raises(nnunetv2_s2ca.UserError, match="exclude each other"):
        nnunetv2_s2ca.prepare(
            {"t1ce": place / "t1ce.nii.gz"},
            place / "case-1",
            mask=place / "mask.nii.gz",
            no_skull_stripping=True,
        )


@pytest.mark.parametrize("scans", [{"t3": "a"}, {"t1": "a", "T1": "b"}, {}])
def test_sequences_are_known_and_named_once(place, scans):
    with pytest.raises(nnunetv2_s2ca.UserError, match=r"expected (one|each) of t1, t1ce"):
        nnunetv2_s2ca.prepare(scans, place / "case-1", no_skull_stripping=True)


class _Predictor:
    """Stands in for HD-BET's: the brain is what is bright."""

    def predict_single_npy_array(self, image, properties):
        assert image.ndim == 4
        assert len(properties["spacing"]) == 3
        return (image[0] > 50).astype(np.uint8)


@pytest.fixture
def hd_bet(tmp_path, monkeypatch):
    """HD-BET's modules as far as they are used, which replace the standard output, too."""
    package = types.ModuleType("HD_BET")
    paths = types.ModuleType("HD_BET.paths")
    paths.folder_with_parameter_files = str(tmp_path / "hd-bet_params")
    prediction = types.ModuleType("HD_BET.hd_bet_prediction")
    prediction.get_hdbet_predictor = lambda use_tta, device: _Predictor()
    package.paths, package.hd_bet_prediction = paths, prediction
    for module in (package, paths, prediction):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return tmp_path / "hd-bet_params"


def _scan(voxels: np.ndarray) -> Scan:
    image = sitk.GetImageFromArray(voxels)
    image.SetDirection([0.0, 0, 1, 1, 0, 0, 0, -1, 0])  # no axis where HD-BET wants it
    return Scan(Path("t1ce"), image, header_of(image))


def test_missing_weights_of_hd_bet_are_named_and_not_downloaded(hd_bet, place, capsys):
    options = ["--t1ce", str(place / "t1ce.nii.gz"), "-o", str(place / "case-1")]
    assert cli.main(["prepare", *options]) == 1
    message = capsys.readouterr().err
    assert f"expected {hd_bet / 'fold_all' / 'checkpoint_final.pth'}" in message
    assert "Nothing is downloaded unasked" in message
    assert not hd_bet.exists()


def test_brain_of_hd_bet_lies_on_the_grid_of_the_scan(hd_bet):
    (hd_bet / "fold_all").mkdir(parents=True)
    (hd_bet / "fold_all" / "checkpoint_final.pth").touch()
    voxels = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
    brain = find_brain(_scan(voxels), "cpu")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(brain), voxels > 50)
    with pytest.raises(nnunetv2_s2ca.UserError, match="finds no brain"):
        find_brain(_scan(voxels / 100), "cpu")


@pytest.fixture
def record(tmp_path):
    """Transforms of one sequence, and a segmentation of the prepared images."""
    grid = sitk.Image([6, 7, 8], sitk.sitkUInt8)
    native = SimpleNamespace(grid=grid, transform=sitk.AffineTransform(3))
    about = {"grid": {"size": [5, 5, 5], "spacing": [1.0] * 3, "origin": [0.0] * 3}}
    about["grid"]["direction"] = np.eye(3).ravel().tolist()
    write_record(tmp_path / "transforms", {"T1ce": native}, about)
    sitk.WriteImage(
        sitk.GetImageFromArray(np.eye(5, dtype=np.uint8)[None].repeat(5, 0)),
        str(tmp_path / "labels.nii.gz"),
    )
    return tmp_path


def _change(**changes: object) -> Callable[[Path], object]:
    def change(place: Path) -> None:
        path = place / "transforms" / "transforms.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


BACK = {
    "no folder": (lambda p: (p / "transforms").rename(p / "other"), {}, "has no transforms.json"),
    "no JSON": (
        lambda p: (p / "transforms" / "transforms.json").write_text("{"),
        {},
        "is not a JSON file",
    ),
    "other format": (_change(format=99), {}, "has the format 99"),
    "no grid": (_change(grid=3), {}, "lacks its sequences or its grid"),
    "damaged grid": (_change(grid={"size": [5, 5]}), {}, "its grid is damaged"),
    "huge grid": (_change(grid={"size": [10**6] * 3}), {}, "its grid is damaged"),
    "no transform": (lambda p: (p / "transforms" / "t1ce.tfm").unlink(), {}, "does not exist"),
    "damaged transform": (
        lambda p: (p / "transforms" / "t1ce.tfm").write_text("no transform"),
        {},
        "t1ce.tfm or its entry in transforms.json is damaged",
    ),
    "sequence that is not there": (None, {"sequence": "t2"}, "has no sequence 'T2'; expected"),
    "unknown sequence": (None, {"sequence": "pd"}, "the sequence 'pd' is unknown"),
    "other grid": (
        lambda p: _save(p / "labels.nii.gz", np.eye(4, dtype=np.uint8)[None].repeat(4, 0)),
        {},
        "the segmentation has the shape",
    ),
    "probabilities": (
        lambda p: sitk.WriteImage(
            sitk.GetImageFromArray(_image(0)[:5, :5, :5]), str(p / "labels.nii.gz")
        ),
        {},
        "labels from 0 to 255",
    ),
    "output exists": (lambda p: (p / "native.nii.gz").touch(), {}, "`overwrite=True`"),
}


@pytest.mark.parametrize(("spoil", "options", "message"), BACK.values(), ids=BACK)
def test_what_cannot_be_carried_back_is_named(spoil, options, message, record):
    if spoil:
        spoil(record)
    before = contents(record)
    paths = (record / name for name in ("labels.nii.gz", "transforms", "native.nii.gz"))
    with pytest.raises(nnunetv2_s2ca.UserError, match=message):
        nnunetv2_s2ca.to_native(*paths, **options)
    assert contents(record) == before


def test_labels_are_carried_back_by_their_largest_share(record):
    paths = (record / name for name in ("labels.nii.gz", "transforms", "native.nii.gz"))
    written = np.asarray(nib.load(nnunetv2_s2ca.to_native(*paths)).dataobj)
    assert written.shape == (6, 7, 8)
    np.testing.assert_array_equal(written[:5, :5, 0], np.eye(5))
    assert not written[5:].any()


def test_labels_without_tumour_are_carried_back_empty(record):
    paths = [record / name for name in ("labels.nii.gz", "transforms", "native.nii.gz")]
    labels = sitk.ReadImage(str(paths[0]))
    sitk.WriteImage(labels * 0, str(paths[0]))
    written = np.asarray(nib.load(nnunetv2_s2ca.to_native(*paths)).dataobj)
    assert written.shape == (6, 7, 8)
    assert not written.any()
