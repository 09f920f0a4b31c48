"""`prepare` on synthetic heads: registrations, files, privacy, and the way back."""

from __future__ import annotations

import gzip
import hashlib
import json
import re

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

import nnunetv2_s2ca
from nnunetv2_s2ca import cli
from nnunetv2_s2ca.brats.editions import EDITIONS
from nnunetv2_s2ca.dataset_conversion.source import find_cases
from nnunetv2_s2ca.imaging.scans import read_scan
from nnunetv2_s2ca.preparation.native import carried, to_native
from nnunetv2_s2ca.preparation.record import read_native
from tests.preparation.heads import dice, make_head, write_head
from tests.segmentation.tiny_model import provide_trainer, write_model

OTHERS = ("T1", "T2", "FLAIR")


def errors_at_tumour(head, transforms, sequence):
    """Distances in mm between where a sequence's points are, and where `prepare` finds them."""
    back = read_native(transforms, "T1ce").transform.GetInverse()
    there = read_native(transforms, sequence).transform
    truth = head.moves[sequence.lower()]
    return [
        np.linalg.norm(
            np.subtract(
                there.TransformPoint(back.TransformPoint(point)), truth.TransformPoint(point)
            )
        )
        for point in head.tumour_points()
    ]


@pytest.mark.parametrize("sequence", OTHERS)
def test_known_motion_of_each_sequence_is_found(prepared, sequence):
    assert max(errors_at_tumour(prepared.head, prepared.folder / "transforms", sequence)) < 1.5


def test_no_registration_looks_failed(prepared):
    assert not [line for line in prepared.outcome.warnings if "failed" in line]


def test_images_are_stripped_aligned_and_keep_their_intensities(prepared):
    scans = {name: read_scan(path) for name, path in prepared.outcome.images.items()}
    images = {name: scan.voxels for name, scan in scans.items()}
    brain = images["T1ce"] > 0
    volume = brain.sum() * 4.0**3 / 1000
    assert 1000 < volume < 2300  # ml
    for voxels in images.values():
        assert voxels.dtype == np.float32
        assert dice(voxels > 0, brain) > 0.97
    original = sitk.GetArrayFromImage(prepared.head.images["t1ce"])
    inside = sitk.GetArrayFromImage(prepared.head.brain) > 0
    assert np.median(images["T1ce"][brain]) == pytest.approx(np.median(original[inside]), rel=0.03)


def test_orientation_is_that_of_brats(prepared):
    for path in prepared.outcome.images.values():
        assert nib.aff2axcodes(nib.load(path).affine) == ("L", "P", "S")


def test_truth_carried_to_the_atlas_and_back_is_the_truth(prepared):
    transforms = prepared.folder / "transforms"
    native = read_native(transforms, "T1ce")
    grid = read_scan(prepared.outcome.images["T1ce"]).image
    truth = sitk.GetArrayFromImage(prepared.head.brain)  # large enough for voxels of 4 mm
    there = carried(prepared.head.brain, grid, native.transform)
    back = sitk.GetArrayFromImage(to_native(there, transforms))
    assert dice(back > 0, truth > 0) > 0.95


@pytest.mark.parametrize("sequence", ["t1", "t1ce", "t2", "flair"])
def test_native_result_lies_on_the_grid_of_the_scan(prepared, tmp_path, sequence):
    labels = read_scan(prepared.outcome.images["T1ce"]).image > 0.0
    sitk.WriteImage(labels, str(tmp_path / "labels.nii.gz"))
    written = nnunetv2_s2ca.to_native(
        tmp_path / "labels.nii.gz",
        prepared.folder / "transforms",
        tmp_path / "native.nii.gz",
        sequence=sequence,
    )
    result, scan = nib.load(written), nib.load(prepared.files[sequence])
    assert result.shape == scan.shape
    np.testing.assert_allclose(result.affine, scan.affine, atol=1e-4)
    assert result.get_data_dtype() == np.uint8


def test_check_and_segment_find_the_case(prepared):
    (case,) = find_cases(EDITIONS["brats2023-gli"], prepared.folder.parent)
    assert case.identifier == "case-1"
    assert not case.problems
    assert {name: path.name for name, path in case.images.items()} == {
        name: path.name for name, path in prepared.outcome.images.items()
    }


def test_record_holds_what_a_reader_needs(prepared):
    record = json.loads((prepared.folder / "transforms" / "transforms.json").read_text())
    assert record["versions"].keys() == {"nnunetv2-s2ca", "SimpleITK"}
    assert record["skull_stripping"] == "mask"
    assert record["reference"] == "T1ce"
    for name, entry in record["sequences"].items():
        assert entry["grid"]["size"] == list(prepared.head.images[name.lower()].GetSize())
        assert entry["quality"]["information"] > 0
        voxels = np.asarray(nib.load(prepared.outcome.images[name]).dataobj, "<f4")
        assert entry["voxels_sha256"] == hashlib.sha256(voxels.tobytes(order="F")).hexdigest()
        assert (prepared.folder / "transforms" / entry["file"]).is_file()
    to_scanner = read_native(prepared.folder / "transforms", "T1ce").transform
    determinant = np.linalg.det(np.reshape(to_scanner.GetMatrix(), (3, 3)))
    assert record["volume_factor"] == pytest.approx(determinant)


def test_segment_takes_its_result_back_to_the_scanner(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", str(provide_trainer(tmp_path)))
    result = nnunetv2_s2ca.segment(
        {name.lower(): path for name, path in prepared.outcome.images.items()},
        tmp_path / "seg.nii.gz",
        model=write_model(tmp_path, folds=1),
        device="cpu",
        mirroring=False,
        native=prepared.folder / "transforms",
    )
    assert not [text for text in result.warnings if "was prepared" in text]
    native, scan = nib.load(tmp_path / "seg_native.nii.gz"), nib.load(prepared.files["t1ce"])
    np.testing.assert_allclose(native.affine, scan.affine, atol=1e-4)
    truth = sitk.GetArrayFromImage(prepared.head.tumour).T > 0
    assert dice(np.asarray(native.dataobj) > 0, truth) > 0.7


def test_quality_picture_shows_every_sequence(prepared):
    with Image.open(prepared.outcome.quality) as picture:
        assert picture.format == "PNG"
        assert picture.size[1] > picture.size[0]  # four rows of three planes


def test_nothing_of_the_identity_is_copied(prepared):
    """The scans have it in their headers, extensions and paths."""
    written = [path for path in prepared.folder.rglob("*") if path.is_file()]
    assert len(written) == 10
    assert b"Doe^John" in gzip.decompress(prepared.files["t1"].read_bytes())
    for path in written:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        assert not re.search(rb"doe.john|1970-01-01", content + path.name.encode(), re.IGNORECASE)
    for path in prepared.outcome.images.values():
        header = nib.load(path).header
        assert not header.extensions
        for field in ("descrip", "aux_file", "db_name", "intent_name"):
            assert not bytes(header[field]).strip(b"\0")


def test_missing_t1ce_is_replaced_as_reference_and_named(prepared, tmp_path, atlas, capsys):
    """And scans without a skull need no mask; the bias field changes no intensity."""
    head = make_head(6, skull=False)
    files = write_head(head, tmp_path / "in")
    options = ["--t1", files["t1"], "--atlas", atlas, "--no-skull-stripping", "--bias-field"]
    assert cli.main(["prepare", *map(str, options), "-o", str(tmp_path / "case-2")]) == 0
    printed = capsys.readouterr().out
    assert "warning: T1ce is missing" in printed
    assert "wrote T1 to" in printed
    record = json.loads((tmp_path / "case-2" / "transforms" / "transforms.json").read_text())
    assert record["reference"] == "T1"
    assert record["bias_field"] is True
    scan = read_scan(tmp_path / "case-2" / "case-2-t1n.nii.gz")
    voxels = scan.voxels
    original = sitk.GetArrayFromImage(head.images["t1"])
    assert np.median(voxels[voxels > 0]) == pytest.approx(
        np.median(original[original > 0]), rel=0.05
    )


def test_unrelated_image_is_a_warning_and_the_atlas_is_found_as_before(prepared, tmp_path, atlas):
    noise = sitk.GetImageFromArray(np.random.default_rng(0).random((50, 60, 50), np.float32))
    noise.SetSpacing([4.0] * 3)
    sitk.WriteImage(noise, str(tmp_path / "noise.nii.gz"))
    outcome = nnunetv2_s2ca.prepare(
        {"t1ce": prepared.files["t1ce"], "t2": tmp_path / "noise.nii.gz"},
        tmp_path / "case-3",
        mask=prepared.files["t1"].parent / "mask.nii.gz",
        atlas=atlas,
    )
    assert any("registration of T2 to T1ce looks failed" in line for line in outcome.warnings)
    again, before = (
        (folder / "transforms" / "t1ce.tfm").read_bytes()
        for folder in (tmp_path / "case-3", prepared.folder)
    )
    assert again == before


@pytest.mark.slow
def test_finer_head_and_the_template_of_nilearn(tmp_path):
    """2 mm, thick slices in one sequence, DICOM's habit; the atlas is the default."""
    head = make_head(8, spacing=2.0)
    files = write_head(head, tmp_path / "in")
    thick = head.images["flair"]
    size = [thick.GetSize()[0], thick.GetSize()[1], thick.GetSize()[2] // 3]
    spacing = [*thick.GetSpacing()[:2], thick.GetSpacing()[2] * 3]
    sitk.WriteImage(
        sitk.Resample(
            *(sitk.SmoothingRecursiveGaussian(thick, [1e-3, 1e-3, 2.0]), size, sitk.Transform()),
            *(sitk.sitkLinear, thick.GetOrigin(), spacing, thick.GetDirection()),
        ),
        str(files["flair"]),
    )
    folder = tmp_path / "case-1"
    outcome = nnunetv2_s2ca.prepare(files, folder, mask=tmp_path / "in" / "mask.nii.gz")
    assert not [line for line in outcome.warnings if "failed" in line]
    for sequence in OTHERS:
        assert max(errors_at_tumour(head, folder / "transforms", sequence)) < 1.5
    image = read_scan(outcome.images["T1"]).image
    assert image.GetSpacing() == (1.0, 1.0, 1.0)
    native = read_native(folder / "transforms", "T1ce")
    there = carried(head.tumour, image, native.transform)
    back = sitk.GetArrayFromImage(to_native(there, folder / "transforms"))
    truth = sitk.GetArrayFromImage(head.tumour)
    for labels in ((1, 2, 4), (1, 4)):  # whole tumour, tumour core
        assert dice(np.isin(back, labels), np.isin(truth, labels)) > 0.95
