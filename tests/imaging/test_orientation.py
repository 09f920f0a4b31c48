"""All 48 orientations, and the way back, against nibabel."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from nnunetv2_s2ca.imaging.grids import coverage, resample, same_grid
from nnunetv2_s2ca.imaging.orientation import ORIENTATIONS, orientation_of, turn
from nnunetv2_s2ca.imaging.scans import affine_of, read_scan

SHAPE, SPACING = (5, 6, 7), (1.0, 1.5, 2.0)


def straight() -> nib.Nifti1Image:
    voxels = np.random.default_rng(0).integers(1, 999, SHAPE).astype(np.int16)
    affine = np.diag([-1.0, -1.5, 2.0, 1])
    affine[:3, 3] = (3.0, 20.0, -7.0)
    return nib.Nifti1Image(voxels, affine)


def oblique(image: nib.Nifti1Image, degrees: float) -> nib.Nifti1Image:
    angle = np.deg2rad(degrees)
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    about_z = about_x[::-1, ::-1]
    affine = image.affine.copy()
    affine[:3, :3] = about_z @ about_x @ affine[:3, :3]
    return nib.Nifti1Image(image.dataobj, affine)


def in_orientation(image: nib.Nifti1Image, code: str) -> nib.Nifti1Image:
    """The same image stored with other axes, by nibabel."""
    change = ornt_transform(io_orientation(image.affine), axcodes2ornt(tuple(code)))
    voxels = nib.orientations.apply_orientation(np.asarray(image.dataobj), change)
    return nib.Nifti1Image(voxels, image.affine @ inv_ornt_aff(change, image.shape))


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("degrees", [0, 17, 44])
@pytest.mark.parametrize("code", ORIENTATIONS)
def test_turned_to_lps_and_back(tmp_path, code, degrees):
    source = oblique(straight(), degrees)
    stored = in_orientation(source, code)
    nib.save(stored, tmp_path / "stored.nii")
    nib.save(in_orientation(source, "LPS"), tmp_path / "lps.nii")
    scan = read_scan(tmp_path / "stored.nii")
    expected = read_scan(tmp_path / "lps.nii")
    assert orientation_of(scan.image) == code

    turned, change = turn(scan.image, "LPS")

    voxels = sitk.GetArrayFromImage(turned)
    assert np.array_equal(voxels, expected.voxels)
    np.testing.assert_allclose(affine_of(turned), affine_of(expected.image), atol=1e-4)
    assert same_grid(turned, expected.image)
    assert np.array_equal(change.undo(voxels), scan.voxels)
    assert np.array_equal(change.undo(np.stack([voxels, -voxels]))[1], -scan.voxels)


@pytest.mark.parametrize("code", ["RAS", "SAL", "PIR"])
def test_models_of_other_orientations(tmp_path, code):
    nib.save(straight(), tmp_path / "scan.nii")
    nib.save(in_orientation(straight(), code), tmp_path / "wanted.nii")
    scan = read_scan(tmp_path / "scan.nii")
    turned, change = turn(scan.image, code)
    assert np.array_equal(
        sitk.GetArrayViewFromImage(turned), read_scan(tmp_path / "wanted.nii").voxels
    )
    assert np.array_equal(change.undo(sitk.GetArrayFromImage(turned)), scan.voxels)


def test_grids_differ_by_place_size_or_spacing():
    image = sitk.Image(SHAPE, sitk.sitkFloat32)
    moved, coarse = sitk.Image(image), sitk.Image(image)
    moved.SetOrigin((0.02, 0, 0))
    coarse.SetSpacing((1.0, 1.0, 1.01))
    assert same_grid(image, sitk.Image(image))
    assert not same_grid(image, moved)
    assert not same_grid(image, coarse)
    assert not same_grid(image, image[1:])


def test_an_image_is_interpolated_linearly_in_space():
    ramp = np.broadcast_to(np.arange(12, dtype=np.float32) * 10, (4, 4, 12))
    image = sitk.GetImageFromArray(ramp)
    grid = sitk.Image((5, 4, 4), sitk.sitkFloat32)
    grid.SetOrigin((2.25, 0, 0))
    grid.SetSpacing((2.0, 1, 1))
    result = sitk.GetArrayFromImage(resample(image, grid))
    np.testing.assert_allclose(result[2, 2], 22.5 + 20 * np.arange(5), rtol=1e-6)


def test_the_background_gets_no_fringe():
    voxels = np.zeros((4, 4, 12), np.float32)
    voxels[..., 4:8] = 50
    grid = sitk.Image((12, 4, 4), sitk.sitkFloat32)
    grid.SetOrigin((0.25, 0, 0))
    result = sitk.GetArrayFromImage(resample(sitk.GetImageFromArray(voxels), grid))
    assert result[2, 2].tolist() == [0, 0, 0, 0, 50, 50, 50, 37.5, 0, 0, 0, 0]


def test_coverage_is_the_share_of_the_grid_within_reach():
    grid = sitk.Image((10, 4, 4), sitk.sitkFloat32) + 1
    half = sitk.Image((5, 4, 4), sitk.sitkFloat32)
    assert coverage(half, grid) == 0.5
    half.SetOrigin((100, 0, 0))
    assert coverage(half, grid) == 0
