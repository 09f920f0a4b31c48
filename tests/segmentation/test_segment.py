"""A patient however stored: the same segmentation, on the patient's own grid."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from scipy.ndimage import gaussian_filter, label

import nnunetv2_s2ca
from nnunetv2_s2ca.core.nifti_writing import GEOMETRY_FIELDS
from nnunetv2_s2ca.imaging.orientation import ORIENTATIONS
from tests.imaging.dicom_files import write_series
from tests.segmentation.conftest import scans_in
from tests.segmentation.images import dice, labels, reoriented, stored_as, tilted
from tests.segmentation.tiny_model import CHANNELS, PLAIN, SPACING, write_model

THROUGH_THE_NETWORK = ("LPS", "RAS", "SAR", "PIL", "IRA", "ASL")


def segment(scans, output, model, **options):
    return nnunetv2_s2ca.segment(scans, output, model=model, device="cpu", **options)


def by_nnunet(scans, model, folder, *, mirroring=True, folds=(0, 1)) -> np.ndarray:
    """What nnU-Net's own predictor writes for the scans."""
    (folder / "out").mkdir(parents=True)
    for number, name in enumerate(CHANNELS):
        (folder / f"case_{number:04d}.nii.gz").symlink_to(scans[name.lower()])
    predictor = nnUNetPredictor(
        use_mirroring=mirroring, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(model), folds)
    predictor.predict_from_files_sequential(str(folder), str(folder / "out"))
    return labels(folder / "out" / "case.nii.gz")


def test_the_model_finds_the_tumour(straight, patient):
    truth = labels(patient / f"{patient.name}_seg.nii.gz")
    assert dice(truth > 0, labels(straight) > 0) > 0.7


@pytest.mark.parametrize("options", [{}, {"mirroring": False, "folds": (1,)}])
def test_voxels_are_those_of_nnunet(tmp_path, scans, model, options):
    segment(scans, tmp_path / "ours.nii.gz", model, **options)
    theirs = by_nnunet(scans, model, tmp_path / "theirs", **options)
    assert np.array_equal(labels(tmp_path / "ours.nii.gz"), theirs)
    assert len(np.unique(theirs)) == 4


def test_a_model_of_plain_labels_gives_the_voxels_of_nnunet(tmp_path, scans, place):
    model = write_model(tmp_path / "results", labels=PLAIN)
    segment(scans, tmp_path / "ours.nii.gz", model)
    theirs = by_nnunet(scans, model, tmp_path / "theirs")
    assert np.array_equal(labels(tmp_path / "ours.nii.gz"), theirs)


@pytest.mark.parametrize("code", THROUGH_THE_NETWORK)
def test_any_orientation_gives_the_same_segmentation(tmp_path, scans, model, straight, code):
    stored = stored_as(scans, tmp_path / code, lambda image: reoriented(image, code))
    result = segment(stored, tmp_path / "seg.nii.gz", model)
    expected = reoriented(nib.load(straight), code)
    assert np.array_equal(labels(result.path), np.asarray(expected.dataobj))
    assert not [text for text in result.warnings if "resampled" in text]


def test_each_sequence_may_have_an_orientation_of_its_own(tmp_path, scans, model, straight):
    codes = dict(zip(scans, ("RAS", "SAL", "PIR", "LPS"), strict=True))
    for name, path in scans.items():
        nib.save(reoriented(nib.load(path), codes[name]), tmp_path / f"{name}.nii")
    stored = {name: tmp_path / f"{name}.nii" for name in scans}
    result = segment(stored, tmp_path / "seg.nii.gz", model, space="flair")
    assert np.array_equal(labels(result.path), labels(straight))
    segment(stored, tmp_path / "seg2.nii.gz", model)
    expected = reoriented(nib.load(straight), "SAL")
    assert np.array_equal(labels(tmp_path / "seg2.nii.gz"), np.asarray(expected.dataobj))


@pytest.mark.parametrize("code", ["LPS", "ASR"])
def test_an_oblique_grid_is_kept(tmp_path, scans, model, straight, code):
    stored = stored_as(scans, tmp_path / "in", lambda image: reoriented(tilted(image, 20), code))
    result = segment(stored, tmp_path / "seg.nii.gz", model)
    expected = reoriented(tilted(nib.load(straight), 20), code)
    assert np.array_equal(labels(result.path), np.asarray(expected.dataobj))


def test_the_model_decides_the_orientation(tmp_path, scans, model, straight):
    turned = write_model(tmp_path / "results")
    reference = reoriented(nib.load(scans["t1"]), "SAR")
    nib.save(reference, turned / "fold_0" / "validation" / "case.nii.gz")
    result = segment(scans, tmp_path / "seg.nii.gz", turned)
    assert result.report["model"]["orientation"] == "SAR"
    assert "validation" in result.report["model"]["orientation_known_from"]
    stored = stored_as(scans, tmp_path / "sar", lambda image: reoriented(image, "SAR"))
    in_sar = by_nnunet(stored, model, tmp_path / "theirs")
    assert not np.array_equal(labels(result.path), labels(straight))
    expected = reoriented(nib.Nifti1Image(in_sar, reference.affine), "LPS")
    assert np.array_equal(labels(result.path), np.asarray(expected.dataobj))


def test_an_unknown_orientation_is_said_to_be_assumed(tmp_path, scans, model):
    result = segment(scans, tmp_path / "seg.nii.gz", model, mirroring=False)
    assert any("LPS, that of BraTS, is assumed" in text for text in result.warnings)


def test_the_geometry_is_that_of_the_scan_bit_for_bit(tmp_path, scans, model):
    image = nib.load(scans["t1ce"])
    image.set_qform(tilted(image, 3).affine, code=3)
    image.set_sform(tilted(image, 3).affine.astype(np.float32) * 1.0, code=2)
    stored = stored_as(
        scans,
        tmp_path / "in",
        lambda other: nib.Nifti1Image(other.dataobj, image.affine, image.header),
    )
    result = segment(stored, tmp_path / "seg.nii.gz", model)
    written, source = nib.load(result.path).header, nib.load(stored["t1ce"]).header
    for field in (*GEOMETRY_FIELDS, "dim"):
        assert np.array_equal(written[field], source[field]), field
    assert np.array_equal(written["pixdim"][:4], source["pixdim"][:4])
    assert written.get_data_dtype() == np.uint8


@pytest.fixture(scope="module")
def smooth(place, patient, model):
    """The patient's scans without noise, which interpolation would remove, and their segmentation.

    The tiny model decides by the intensity of single voxels; a real network does not.
    """

    def smoothed(image: nib.Nifti1Image) -> nib.Nifti1Image:
        voxels = np.asarray(image.dataobj).astype(np.float32)
        return nib.Nifti1Image(gaussian_filter(voxels, 1) * (voxels > 0), image.affine)

    scans = stored_as(scans_in(patient), place / "smooth", smoothed)
    return scans, segment(scans, place / "smooth.nii.gz", model).path


def resampled(path, spacing, offset=0.0) -> sitk.Image:
    """The image on another grid that covers it, as if it had been stripped there."""
    image = sitk.ReadImage(str(path))
    size = [int((n + 1) * SPACING / spacing) for n in image.GetSize()]
    corner = image.TransformContinuousIndexToPhysicalPoint([offset] * 3)
    place = (corner, [spacing] * 3, image.GetDirection())
    still = sitk.Transform()
    brain = sitk.Resample(image != 0, size, still, sitk.sitkNearestNeighbor, *place)
    return sitk.Mask(sitk.Resample(image, size, still, sitk.sitkLinear, *place), brain)


def test_a_sequence_on_another_grid_is_resampled(tmp_path, smooth, model):
    scans, expected = smooth
    sitk.WriteImage(resampled(scans["flair"], 1.7, -0.3), str(tmp_path / "f.nii.gz"))
    named = {**scans, "flair": tmp_path / "f.nii.gz"}
    result = segment(named, tmp_path / "seg.nii.gz", model)
    remark = next(text for text in result.warnings if "resampled" in text)
    assert remark.startswith("FLAIR: resampled from (97, 114, 91) voxels of 1.7")
    assert dice(labels(result.path) > 0, labels(expected) > 0) > 0.97


def test_space_names_the_grid_of_the_result(tmp_path, smooth, model):
    scans, expected = smooth
    sitk.WriteImage(resampled(scans["t1"], 2.0), str(tmp_path / "t1.nii.gz"))
    named = {**scans, "t1": tmp_path / "t1.nii.gz"}
    result = segment(named, tmp_path / "seg.nii.gz", model, space="t1")
    fine = sitk.ReadImage(str(tmp_path / "t1.nii.gz"))
    assert labels(result.path).shape == fine.GetSize()
    nearest = sitk.Resample(
        sitk.ReadImage(str(expected)), fine, sitk.Transform(), sitk.sitkNearestNeighbor
    )
    assert dice(labels(result.path) > 0, sitk.GetArrayFromImage(nearest).T > 0) > 0.85
    with pytest.raises(nnunetv2_s2ca.UserError, match="`space` is 't9'"):
        segment(scans, tmp_path / "b.nii.gz", model, space="t9")


def test_dicom_series_give_the_same_segmentation(tmp_path, scans, model, straight):
    folders = {}
    for number, (name, path) in enumerate(scans.items()):
        folders[name] = tmp_path / name
        write_series(sitk.ReadImage(str(path)), folders[name], uid=f"1.2.3.{number}", number=number)
    result = segment(folders, tmp_path / "seg.nii.gz", model)
    assert np.array_equal(labels(result.path), labels(straight))
    np.testing.assert_allclose(nib.load(result.path).affine, nib.load(straight).affine, atol=1e-3)


def test_all_48_orientations_through_the_input_and_back(tmp_path, scans, model):
    """Without the network, which the tests above run."""
    from nnunetv2_s2ca.segmentation.inputs import read_input
    from nnunetv2_s2ca.segmentation.model import PredictorSettings, load_model

    loaded = load_model(model, PredictorSettings(device="cpu"))
    files = {name: scans[name.lower()] for name in CHANNELS}
    expected = read_input(files, loaded)
    small = {name: tmp_path / f"{name}.nii" for name in CHANNELS}
    images = {name: nib.load(path) for name, path in files.items()}
    for code in ORIENTATIONS:
        for name, image in images.items():
            nib.save(reoriented(image, code), small[name])
        given = read_input(small, loaded)
        assert np.array_equal(given.voxels, expected.voxels), code
        assert given.properties["spacing"] == expected.properties["spacing"]
        assert np.array_equal(given.turned.undo(given.voxels[1]), given.scan.voxels), code


def test_labels_of_an_edition(tmp_path, scans, model, straight):
    result = segment(scans, tmp_path / "seg.nii.gz", model, edition="brats2019")
    table = np.array([0, 2, 1, 4], np.uint8)
    assert np.array_equal(labels(result.path), table[labels(straight)])
    assert set(result.report["labels_ml"]) == {"1", "2", "4"}


def test_nii_output_and_replacing_it(tmp_path, scans, model, straight):
    result = segment(scans, tmp_path / "seg.nii", model)
    assert np.array_equal(labels(result.path), labels(straight))
    with pytest.raises(nnunetv2_s2ca.UserError, match="`overwrite=True`"):
        segment(scans, tmp_path / "seg.nii", model)
    segment(scans, tmp_path / "seg.nii", model, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["seg.nii"]


def test_the_report_agrees_with_the_segmentation(tmp_path, scans, model):
    result = segment(
        scans, tmp_path / "seg.nii.gz", model, report=tmp_path / "seg.json", edition="brats2019"
    )
    report = json.loads((tmp_path / "seg.json").read_text())
    voxels = labels(result.path)
    for name, values in {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}.items():
        assert report["volumes_ml"][name] == pytest.approx(
            np.isin(voxels, values).sum() * SPACING**3 / 1000
        )
    assert report["labels_ml"]["2"] == pytest.approx((voxels == 2).sum() * SPACING**3 / 1000)
    assert report["volumes_ml"] == result.volumes_ml
    assert report["lesions"]["WT"] == label(voxels > 0, np.ones((3, 3, 3)))[1]
    assert report["model"]["folds"] == ["0", "1"]
    assert report["versions"]["nnunetv2-s2ca"] == nnunetv2_s2ca.__version__
    assert len(report["model"]["sha256"]) == 64
    assert report["seconds"]["prediction"] > 0
    assert report["warnings"] == list(result.warnings)
