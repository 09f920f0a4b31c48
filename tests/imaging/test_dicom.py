"""Reading DICOM series."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.imaging.dicom import find_series, read_dicom
from tests.imaging.dicom_files import write_series

OBLIQUE = (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0)


def image(shape=(5, 7, 6), *, direction=OBLIQUE, seed=0) -> sitk.Image:
    voxels = np.random.default_rng(seed).integers(0, 900, shape).astype(np.int16)
    made = sitk.GetImageFromArray(voxels)
    made.SetSpacing((0.5, 0.75, 2.0))
    made.SetOrigin((-30.0, 12.5, 40.0))
    made.SetDirection(direction)
    return made


@pytest.mark.parametrize("direction", [OBLIQUE, (0, 0, 1, 1, 0, 0, 0, 1, 0)])
def test_a_series_has_the_voxels_and_the_geometry_that_were_written(tmp_path, direction):
    written = image(direction=direction)
    write_series(written, tmp_path)
    (tmp_path / "notes.txt").write_text("no DICOM")
    read = read_dicom(tmp_path)
    assert (sitk.GetArrayFromImage(read) == sitk.GetArrayFromImage(written)).all()
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(read, name)(), getattr(written, name)(), atol=1e-5)


def test_a_series_in_a_subfolder_is_found(tmp_path):
    write_series(image(), tmp_path / "study" / "series")
    assert read_dicom(tmp_path).GetSize() == (6, 7, 5)


def test_nothing_of_the_patient_is_in_the_image(tmp_path):
    write_series(image(), tmp_path)
    assert read_dicom(tmp_path).GetMetaDataKeys() == ()


def test_several_series_are_listed_and_none_is_taken(tmp_path):
    write_series(image(), tmp_path, number=3, description="t1_mprage_sag")
    write_series(image(seed=1), tmp_path, uid="1.2.3.4", number=7, description="t1_mprage_post")
    assert len(find_series(tmp_path)) == 2
    with pytest.raises(UserError) as error:
        read_dicom(tmp_path)
    message = str(error.value)
    assert "series 3, t1_mprage_sag: 5 files" in message
    assert "series 7, t1_mprage_post: 5 files" in message
    assert "Secret" not in message


def test_slices_of_two_sizes_are_refused(tmp_path):
    write_series(image()[:, :, :2], tmp_path, number=1)
    write_series(image((5, 9, 6)), tmp_path, number=2, leave_out=(0, 1))
    with pytest.raises(UserError, match="cannot be read"):
        read_dicom(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no DICOM series"):
        read_dicom(tmp_path)


def test_a_missing_slice_is_refused(tmp_path):
    write_series(image(), tmp_path, leave_out=(2,))
    with pytest.raises(UserError, match="2 to 4 mm apart; expected equal distances"):
        read_dicom(tmp_path)


def test_two_slices_at_one_place_are_refused(tmp_path):
    write_series(image(), tmp_path)
    write_series(image(seed=1), tmp_path, number=2)  # the same UID, as two echoes have
    with pytest.raises(UserError, match="two slices lie at the same place"):
        read_dicom(tmp_path)


def test_a_single_slice_is_refused(tmp_path):
    write_series(image(), tmp_path, leave_out=(1, 2, 3, 4))
    with pytest.raises(UserError, match="one slice; expected a 3D image"):
        read_dicom(tmp_path)


@pytest.mark.parametrize("index", [2, 4])
def test_a_damaged_file_is_named(tmp_path, index):
    write_series(image(), tmp_path)
    file = tmp_path / f"1_{index:03d}.dcm"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"_00\d.dcm is a DICOM file without a readable image"):
        read_dicom(tmp_path)
