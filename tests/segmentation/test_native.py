"""`--native`: the labels of prepared scans on the grid that the scanner gave."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

import nnunetv2_s2ca
from nnunetv2_s2ca.cli import main
from nnunetv2_s2ca.imaging.scans import affine_of, read_scan
from nnunetv2_s2ca.preparation.native import to_native
from nnunetv2_s2ca.preparation.record import VOXELS, Native, grid_of, voxel_digest, write_record
from nnunetv2_s2ca.segmentation import predictor
from tests.robustness.predictions import contents
from tests.segmentation.images import labels
from tests.segmentation.test_wrong_inputs import command

SIZES = {"T1ce": (44, 40, 36), "FLAIR": (40, 44, 20)}
SPACINGS = {"T1ce": (4.0, 4.5, 5.0), "FLAIR": (4.5, 4.0, 8.0)}


def native_of(prepared: sitk.Image, sequence: str, turn: float) -> Native:
    """A tilted grid around the head, which is smaller there by a tenth than in the atlas."""
    middle = prepared.TransformContinuousIndexToPhysicalPoint(
        [(size - 1) / 2 for size in prepared.GetSize()]
    )
    there = sitk.Euler3DTransform(middle, turn, -turn, turn / 2, (12.0, -7.0, 5.0))
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((0.9 * np.reshape(there.GetMatrix(), (3, 3))).ravel().tolist())
    transform.SetCenter(there.GetCenter())
    transform.SetTranslation(there.GetTranslation())
    grid = sitk.Image(SIZES[sequence], sitk.sitkUInt8)
    grid.SetSpacing(SPACINGS[sequence])
    grid.SetDirection(there.GetMatrix())
    centre = grid.TransformContinuousIndexToPhysicalPoint(
        [(size - 1) / 2 for size in SIZES[sequence]]
    )
    grid.SetOrigin(np.subtract(transform.TransformPoint(middle), centre).tolist())
    return Native(grid, transform)


@pytest.fixture
def natives(scans) -> dict[str, Native]:
    prepared = read_scan(scans["t1ce"]).image
    return {
        name: native_of(prepared, name, turn) for name, turn in (("T1ce", 0.2), ("FLAIR", -0.1))
    }


@pytest.fixture
def transforms(tmp_path, scans, natives):
    """The record of two sequences, as if `prepare` had made the scans."""
    known = {name: read_scan(scans[name.lower()]) for name in natives}
    entries = {name: {VOXELS: voxel_digest(scan.voxels)} for name, scan in known.items()}
    about = {"grid": grid_of(known["T1ce"].image), "sequences": entries}
    folder = tmp_path / "transforms"
    write_record(folder, natives, about)
    return folder


@pytest.mark.parametrize(("space", "edition"), [(None, None), ("flair", "brats2019")])
def test_labels_are_those_of_to_native_on_the_grid_of_the_scanner(
    tmp_path, scans, model, natives, transforms, space, edition
):
    result = nnunetv2_s2ca.segment(
        scans,
        tmp_path / "seg.nii.gz",
        model=model,
        device="cpu",
        space=space,
        edition=edition,
        native=transforms,
        report=tmp_path / "report.json",
    )
    sequence = "FLAIR" if space else "T1ce"
    written = tmp_path / "seg_native.nii.gz"
    expected = to_native(read_scan(result.path).image, transforms, sequence=sequence)
    assert np.array_equal(labels(written).T, sitk.GetArrayFromImage(expected))
    image, grid = nib.load(written), natives[sequence].grid
    assert image.shape == grid.GetSize()
    np.testing.assert_allclose(image.affine, affine_of(grid), atol=1e-4)
    assert np.array_equal(np.unique(labels(written)), np.unique(labels(result.path)))
    assert not [text for text in result.warnings if "prepared" in text]

    told = json.loads((tmp_path / "report.json").read_text())
    assert told["native"]["segmentation"] == str(written)
    assert told["native"]["transforms"] == str(transforms)
    # the transform shrinks the head to 0.9 along each axis
    for label, volume in told["native"]["labels_ml"].items():
        voxels = np.count_nonzero(labels(written) == int(label))
        assert volume == pytest.approx(voxels * np.prod(SPACINGS[sequence]) / 1000)
    total = sum(told["labels_ml"].values())
    assert sum(told["native"]["labels_ml"].values()) == pytest.approx(0.9**3 * total, rel=0.2)


def test_an_image_that_was_not_prepared_with_them_is_a_warning(
    tmp_path, scans, model, transforms, capsys
):
    """All patients of an atlas share its grid, so that the grid alone tells nothing."""
    image = nib.load(scans["t1ce"])
    changed = tmp_path / "t1ce.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * 2, image.affine, image.header), changed)
    options = ("--native", str(transforms), "--disable_tta")
    assert main(command({**scans, "t1ce": changed}, model, tmp_path / "seg.nii", *options)) == 0
    said = capsys.readouterr()
    assert f"{changed} is not the T1ce that was prepared with" in said.out + said.err
    assert (tmp_path / "seg_native.nii").is_file()


def test_no_tumour_is_none_on_the_grid_of_the_scanner(scans, transforms):
    empty = read_scan(scans["t1ce"]).image > 1e9
    assert not sitk.GetArrayFromImage(to_native(empty, transforms)).any()


def _no_folder(place):
    shutil.rmtree(place / "transforms")


def _of_another_grid(place):
    record = place / "transforms" / "transforms.json"
    content = json.loads(record.read_text())
    content["grid"]["origin"][0] += 3
    record.write_text(json.dumps(content))


def _damaged(place):
    (place / "transforms" / "t1ce.tfm").write_text("no transform")


def _exists(place):
    (place / "seg_native.nii.gz").write_text("mine")


WRONG = {
    "no folder": (_no_folder, (), "has no transforms.json; expected the folder `transforms`"),
    "another grid": (_of_another_grid, (), "lies on another grid than the images prepared with"),
    "damaged": (_damaged, (), "t1ce.tfm or its entry in transforms.json is damaged"),
    "no such sequence": (None, ("--space", "t2"), "has no sequence 'T2'; expected one of"),
    "output exists": (_exists, (), "seg_native.nii.gz exists; pass --overwrite"),
    "output in it": (None, ("-o", "transforms/seg.nii.gz"), "overlap"),
    "many patients": (None, None, "--native is for one patient (--t1 …), not for a folder (-i)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_transforms(tmp_path, scans, model, transforms, capsys, monkeypatch, case):
    def never(*_):
        raise AssertionError("the network must not run")

    monkeypatch.setattr(predictor.MemberPredictor, "predict_logits_from_preprocessed_data", never)
    monkeypatch.chdir(tmp_path)
    spoil, options, message = WRONG[case]
    if spoil:
        spoil(tmp_path)
    before = contents(tmp_path)
    if options is None:
        words = ["segment", "-m", str(model), "-i", str(scans["t1"].parent), "-o", "results"]
    else:
        words = command(scans, model, "seg.nii.gz", *options)
    assert main([*words, "--native", "transforms"]) == 1
    assert message in capsys.readouterr().err
    assert contents(tmp_path) == before
